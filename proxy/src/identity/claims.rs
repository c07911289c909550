//! Claims whose signature was verified: each checked, then made a principal. No clock of its own.

use std::collections::{BTreeMap, BTreeSet};

use countersign_policy::Principal;
use serde_json::Value;

use super::{IdentityError, Verified};
use crate::config::Identity;

/// Longest subject, e-mail or group taken.
const MAX_NAME: usize = 512;
/// More groups than anybody is in.
const MAX_GROUPS: usize = 1_000;
/// Longest kept claim; the rest is cut.
const MAX_KEPT: usize = 1_024;

/// Checks every claim at second `now` and makes the principal.
pub(super) fn check(claims: &Value, settings: &Identity, now: u64) -> Result<Verified, IdentityError> {
    let issuer = text(claims, "iss")?;
    if issuer != settings.issuer {
        return Err(IdentityError::Issuer);
    }
    check_audience(claims, settings)?;
    let leeway = settings.leeway.as_secs();
    let expires_at = seconds(claims, "exp")?.ok_or_else(|| claim("exp", "is missing"))?;
    if now >= expires_at.saturating_add(leeway) {
        return Err(IdentityError::Expired { at: expires_at });
    }
    if let Some(at) = seconds(claims, "nbf")?
        && now.saturating_add(leeway) < at
    {
        return Err(IdentityError::NotYet { at });
    }
    seconds(claims, "iat")?;
    let subject = name(&settings.subject_claim, find(claims, &settings.subject_claim))?
        .ok_or_else(|| claim(&settings.subject_claim.join("."), "is missing"))?;
    let principal =
        Principal { issuer, subject, email: email(claims, settings)?, groups: groups(claims, settings)?, claims: kept(claims, settings) };
    Ok(Verified { principal, expires_at })
}

fn check_audience(claims: &Value, settings: &Identity) -> Result<(), IdentityError> {
    let accepted = |audience: &str| settings.audiences.iter().any(|known| known == audience);
    let found = match claims.get("aud") {
        None => return Err(claim("aud", "is missing")),
        Some(Value::String(one)) => accepted(one),
        Some(Value::Array(many)) => {
            if !many.iter().all(Value::is_string) {
                return Err(claim("aud", "is not a list of texts"));
            }
            many.iter().filter_map(Value::as_str).any(accepted)
        }
        Some(_) => return Err(claim("aud", "is not text")),
    };
    if found { Ok(()) } else { Err(IdentityError::Audience { expected: settings.audiences.join(", ") }) }
}

/// A NumericDate (RFC 7519 section 2): a number, never a text that looks like one.
fn seconds(claims: &Value, name: &str) -> Result<Option<u64>, IdentityError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            // Fractions are allowed and cut off; beyond 2^53 they are not seconds.
            let whole = number.as_u64().or_else(|| {
                number
                    .as_f64()
                    .filter(|number| (0.0..9_007_199_254_740_992.0).contains(number))
                    .and_then(|number| format!("{:.0}", number.floor()).parse().ok())
            });
            whole.map(Some).ok_or_else(|| claim(name, "is not a time"))
        }
        Some(_) => Err(claim(name, "is not a number")),
    }
}

fn email(claims: &Value, settings: &Identity) -> Result<Option<String>, IdentityError> {
    // An address the issuer did not verify could be anybody's.
    let unverified = match claims.get("email_verified") {
        None => false,
        Some(Value::Bool(verified)) => !verified,
        Some(Value::String(text)) => text != "true",
        Some(_) => true,
    };
    let address = name(&settings.email_claim, find(claims, &settings.email_claim))?;
    Ok(address.filter(|_| !unverified))
}

fn groups(claims: &Value, settings: &Identity) -> Result<BTreeSet<String>, IdentityError> {
    let path = settings.groups_claim.join(".");
    match find(claims, &settings.groups_claim) {
        None | Some(Value::Null) => Ok(BTreeSet::new()),
        Some(Value::Array(members)) if members.len() > MAX_GROUPS => Err(claim(&path, "lists too many groups")),
        Some(Value::Array(members)) => members
            .iter()
            .map(|member| {
                name(&settings.groups_claim, Some(member)).and_then(|found| found.ok_or_else(|| claim(&path, "holds an empty group")))
            })
            .collect(),
        one => Ok(name(&settings.groups_claim, one)?.into_iter().collect()),
    }
}

fn kept(claims: &Value, settings: &Identity) -> BTreeMap<String, String> {
    let shown = |value: &Value| {
        let text = match value {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some(text.chars().take(MAX_KEPT).collect::<String>())
    };
    settings.kept_claims.iter().filter_map(|(name, path)| Some((name.clone(), shown(find(claims, path)?)?))).collect()
}

/// A text that may name somebody: short, not blank, and nothing in it that changes how it looks.
fn name(path: &[String], value: Option<&Value>) -> Result<Option<String>, IdentityError> {
    let fault = |problem| Err(claim(&path.join("."), problem));
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() > MAX_NAME => fault("is too long"),
        Some(Value::String(text)) if text.chars().any(char::is_control) => fault("holds control characters"),
        Some(Value::String(text)) if text.chars().any(is_unseen) => fault("holds characters that cannot be seen or that reorder text"),
        Some(Value::String(text)) if text.trim() != text => fault("begins or ends with white space"),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => fault("is not text"),
    }
}

/// Two names that look the same to a reviewer must be the same: nothing of zero width, no direction marks, no spaces but the plain one.
const fn is_unseen(char: char) -> bool {
    matches!(char,
        '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{1680}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{2800}'
        | '\u{3000}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn text(claims: &Value, name: &str) -> Result<String, IdentityError> {
    match claims.get(name) {
        None => Err(claim(name, "is missing")),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(claim(name, "is not text")),
    }
}

fn find<'a>(claims: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(claims, |value, part| value.get(part))
}

fn claim(name: &str, problem: &'static str) -> IdentityError {
    IdentityError::Claim { claim: name.to_owned(), problem }
}
