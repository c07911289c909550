//! Settings of the start-up packet that are judged: each as the SET it stands for.
//!
//! Owns: the text of that SET, and the refusal where it would not run at once. Does not own: which settings need no judgement (the
//! shell's list), and sending them, which the shell does with the login.

use bytes::Bytes;
use countersign_policy::{Denial, JudgeRequest, Judgement, Verdict, judge, search_path_names};

/// Settings that the server takes at the start of a session only: there is no SET to judge them by.
const NEVER_SET: &[&str] = &[
    "ignore_system_indexes",
    "jit_debugging_support",
    "jit_profiling_support",
    "local_preload_libraries",
    "log_connections",
    "log_disconnections",
    "post_auth_delay",
    "pre_auth_delay",
    "session_preload_libraries",
];

/// A setting that the session opens with. There is none that the policy would not let its principal SET.
#[derive(Debug)]
pub struct Opening {
    name: String,
    value: String,
    text: Bytes,
    judgement: Judgement,
}

impl Opening {
    /// Judges `name = value` under the state of a fresh session. The calling thread needs the stack that judging asks for.
    ///
    /// # Errors
    /// What the client is told where the SET would be refused or held, or there is none.
    pub fn judge(name: &str, value: &str, request: &JudgeRequest<'_>) -> Result<Self, Denial> {
        let name = name.to_ascii_lowercase();
        if NEVER_SET.contains(&name.as_str()) || !is_name(&name) {
            return Err(refusal("42501", format!("start-up setting \"{}\" is not allowed by the gateway", shown(&name)), None));
        }
        let invalid = || {
            let denial = refusal("22023", format!("invalid value for parameter \"{name}\": \"{}\"", shown(value)), None);
            Denial { detail: Some("List syntax is invalid.".to_owned()), ..denial }
        };
        let literals: Vec<String> = if name == "search_path" {
            search_path_names(value).ok_or_else(invalid)?.iter().map(|schema| literal(schema)).collect()
        } else {
            vec![literal(value)]
        };
        // A list of none is written as a schema without a name, which there cannot be.
        let values = if literals.is_empty() { literal("") } else { literals.join(", ") };
        let text = format!("SET {name} TO {values}");
        let judgement = judge(&text, request);
        match &judgement.verdict {
            Verdict::Allow => Ok(Self { value: value.to_owned(), text: Bytes::from(text), judgement, name }),
            Verdict::Deny(denial) => Err(denial.clone()),
            Verdict::Hold(_) => {
                let message = format!("start-up setting \"{name}\" needs an approval, which cannot be had before the session begins");
                Err(refusal("42501", message, Some("SET it once connected, where it can be approved")))
            }
        }
    }

    /// The setting's name, in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value, as the client wrote it.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What was judged.
    pub(crate) fn into_judged(self) -> (Bytes, Judgement) {
        (self.text, self.judgement)
    }

    pub(crate) const fn judgement(&self) -> &Judgement {
        &self.judgement
    }
}

/// Whether a name, in lower case, is written in SQL as it is: `a.b` too.
fn is_name(name: &str) -> bool {
    name.split('.').all(|part| {
        part.bytes().enumerate().all(|(at, byte)| matches!(byte, b'a'..=b'z' | b'_') || (at > 0 && matches!(byte, b'0'..=b'9' | b'$')))
            && !part.is_empty()
    })
}

/// A literal under `standard_conforming_strings`, which sessions are pinned to.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The client's own words, short and without control characters.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn refusal(code: &str, message: String, hint: Option<&str>) -> Denial {
    Denial { code: code.to_owned(), message, detail: None, hint: hint.map(str::to_owned) }
}
