//! Texts of the server's that are no column's value: errors, notices, payloads of notifications.
//!
//! Where protected relations are in play, error and notice texts are withheld (`errors`). What passes is looked at by the policy's
//! detectors. Values of settings pass where it is known who gave them. A payload is whatever another session put in it, so it is withheld from everybody some mask is about.

use bytes::{Bytes, BytesMut};
use countersign_masking::detect::Detectors;
use countersign_policy::judge::{masks_apply, text_detectors};
use countersign_policy::rule::Notifications;
use countersign_policy::{Policy, Principal};
use countersign_wire::{ErrorFields, be};

use crate::ends::Fatal;
use crate::errors;
use crate::session::Session;

/// What stands in place of a payload.
const WITHHELD: &[u8] = b"****";

/// What a policy makes of such texts for one principal.
#[derive(Debug)]
pub(crate) struct Texts {
    detectors: Option<Detectors>,
    masks: bool,
    withholds: bool,
}

impl Texts {
    pub(crate) fn new(policy: &Policy, principal: &Principal) -> Self {
        let masks = masks_apply(policy, principal);
        let withholds = masks && policy.masking().notifications == Notifications::Withhold;
        Self { detectors: text_detectors(policy, principal), masks, withholds }
    }

    /// The text with what detectors find in it hidden; `None` when they find nothing.
    fn redacted(&self, text: &[u8]) -> Option<BytesMut> {
        let detectors = self.detectors.as_ref()?;
        let mut out = BytesMut::new();
        (detectors.finds(text) && detectors.redact(text, &mut out) > 0).then_some(out)
    }
}

/// What the client is shown of a setting that the server reports.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// Its value.
    Clear,
    /// Another one.
    As(String),
    /// Nothing: no other value would be one of that setting.
    Withheld,
}

impl Session {
    /// What the client is shown of a setting that the server reports. What neither the client nor the server gave it may be made of anything:
    /// `DO` can put whatever it reads into `application_name` or, as the name of a zone, into `TimeZone`.
    pub(crate) fn reported(&self, name: &str, value: &str) -> Reported {
        if self.state.is_known_parameter(name, value) {
            return Reported::Clear;
        }
        let free = name == "application_name";
        if self.texts.masks {
            return if free { Reported::As(String::from_utf8_lossy(WITHHELD).into_owned()) } else { Reported::Withheld };
        }
        match self.texts.redacted(value.as_bytes()) {
            None => Reported::Clear,
            Some(redacted) if free => Reported::As(String::from_utf8_lossy(&redacted).into_owned()),
            Some(_) => Reported::Withheld,
        }
    }

    /// What the client is shown of an error or notice; `None`: all of it.
    pub(crate) fn cleaned(&self, said: &ErrorFields) -> Option<ErrorFields> {
        let withheld = self.protected_in_play().then(|| errors::withheld(said));
        let mut cleaned = withheld.as_ref().unwrap_or(said).clone();
        let mut hidden = false;
        for (letter, text) in &mut cleaned.0 {
            // Severity, SQLSTATE, positions, and the place in the server's own source.
            if b"SVCPpFLR".contains(letter) {
                continue;
            }
            if let Some(redacted) = self.texts.redacted(text.as_bytes()) {
                *text = String::from_utf8_lossy(&redacted).into_owned();
                hidden = true;
            }
        }
        (hidden || withheld.is_some()).then_some(cleaned)
    }

    /// A NotificationResponse as the client is shown it; `None`: as it is.
    /// <https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-NOTIFICATIONRESPONSE>
    pub(crate) fn notification(&self, body: &[u8]) -> Result<Option<Bytes>, Fatal> {
        let mut reader = countersign_wire::Reader::new(body);
        let process = reader.u32("process id")?;
        let channel = reader.cstring("channel")?;
        let payload = reader.cstring("payload")?;
        let shown_payload =
            if self.texts.withholds && !payload.is_empty() { Some(BytesMut::from(WITHHELD)) } else { self.texts.redacted(payload) };
        let shown_channel = self.texts.redacted(channel);
        if shown_payload.is_none() && shown_channel.is_none() {
            return Ok(None);
        }
        Ok(Some(countersign_wire::framed(|out| {
            countersign_wire::frame(out, be::NOTIFICATION, |out| {
                out.extend_from_slice(&process.to_be_bytes());
                for part in [shown_channel.as_deref().unwrap_or(channel), shown_payload.as_deref().unwrap_or(payload)] {
                    out.extend_from_slice(part);
                    out.extend_from_slice(&[0]);
                }
            });
        })))
    }
}
