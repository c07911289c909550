//! `[approvals]`: where requests and decisions are kept, and whose signatures open a hold. The checked form is the store's own
//! [`ApprovalsConfig`].

use std::path::PathBuf;

use super::{ConfigError, check::Place, raw};
use crate::approvals::{ApprovalsConfig, StoreKind};

pub(super) fn from_raw(section: &toml::Spanned<raw::Approvals>, place: &Place<'_>) -> Result<ApprovalsConfig, ConfigError> {
    let raw = section.get_ref();
    let store = place.word("approvals.store", &raw.store, &[("directory", StoreKind::Directory), ("dynamodb", StoreKind::DynamoDb)])?;
    let (mut path, mut table) = (None, None);
    let default_poll = match store {
        StoreKind::Directory => {
            place.absent("approvals.table", raw.table.as_ref(), "has no use with store = \"directory\"")?;
            path = Some(place.path("approvals.path", place.required("approvals.path", raw.path.as_ref(), &raw.store, "store")?)?);
            50
        }
        StoreKind::DynamoDb => {
            place.absent("approvals.path", raw.path.as_ref(), "has no use with store = \"dynamodb\"")?;
            table = Some(place.text("approvals.table", place.required("approvals.table", raw.table.as_ref(), &raw.store, "store")?)?);
            200
        }
    };
    let keys: Vec<PathBuf> = raw.keys.iter().flatten().map(|path| place.existing("approvals.keys", path)).collect::<Result<_, _>>()?;
    let kms_keys: Vec<String> = raw.kms_keys.iter().flatten().map(|key| place.text("approvals.kms_keys", key)).collect::<Result<_, _>>()?;
    if keys.is_empty() && kms_keys.is_empty() {
        return Err(place
            .fault("approvals.keys", section.span(), "missing: without a public key no decision can be verified")
            .hint("give keys = [\"decision.pub.pem\"] or kms_keys = [\"alias/…\"]"));
    }
    Ok(ApprovalsConfig {
        store,
        path,
        table,
        keys,
        kms_keys,
        poll_interval_ms: place.number("approvals.poll_interval_ms", raw.poll_interval_ms.as_ref(), default_poll, 10..=60_000)?,
        resume: raw.resume.unwrap_or(true),
        bot_url: raw.bot_url.as_ref().map(|url| bot_url(url, place)).transpose()?,
        keep_finished_days: place.number("approvals.keep_finished_days", raw.keep_finished_days.as_ref(), 7, 1..=3_650)?,
    })
}

/// What clients are told and terminals show: HTTPS, or this machine; nothing but what addresses are made of.
fn bot_url(written: &toml::Spanned<String>, place: &Place<'_>) -> Result<String, ConfigError> {
    let url = place.text("approvals.bot_url", written)?;
    let host =
        url.strip_prefix("https://").or_else(|| url.strip_prefix("http://127.0.0.1").or_else(|| url.strip_prefix("http://localhost")));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/[]".contains(&byte);
    if host.is_some() && url.len() <= 200 && url.bytes().all(plain) && !url.ends_with('/') {
        return Ok(url);
    }
    Err(place
        .fault("approvals.bot_url", written.span(), "is no address of the bot")
        .hint("write what COUNTERSIGN_PUBLIC_URL of the bot says: `https://approvals.bank.example`, without a slash at the end"))
}
