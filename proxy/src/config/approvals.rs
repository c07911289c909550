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
        keep_finished_days: place.number("approvals.keep_finished_days", raw.keep_finished_days.as_ref(), 7, 1..=3_650)?,
    })
}
