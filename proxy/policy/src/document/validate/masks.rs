//! Masks, detectors and what masks cannot cover.

use countersign_masking::detect::{Detectors, InvalidPattern, Kind, Pattern};
use toml::Spanned;

use super::Check;
use crate::document::{PolicyError, source};
use crate::pattern::{ColumnPattern, Glob};
use crate::roster::Roster;
use crate::rule::{Action, Detect, Mask, MaskKind, Masking, Unmask};

impl Check<'_> {
    pub(super) fn mask(&self, mask: source::Mask) -> Result<Mask, PolicyError> {
        let columns = match &mask.columns {
            Some(list) if list.get_ref().is_empty() => return Err(self.fault(list, "a mask needs at least one column", None)),
            Some(list) => self.columns(list.get_ref())?,
            None => Vec::new(),
        };
        let mut tags = Vec::new();
        for tag in mask.tags.iter().flat_map(|tags| tags.get_ref()) {
            let text = tag.get_ref();
            if text.is_empty() || !text.chars().all(|c| c.is_alphanumeric() || "-_*".contains(c)) {
                let hint = "write `pii` for columns whose comment has the word `countersign:pii`";
                return Err(self.fault(tag, format!("`{text}` is not a tag"), Some(hint)));
            }
            tags.push(Glob::new(text));
        }
        if columns.is_empty() && tags.is_empty() {
            return Err(self.fault(
                &mask.mask,
                "a mask needs `columns` or `tags`",
                Some("for example `columns = [\"public.customers.ssn\"]`"),
            ));
        }
        Ok(Mask { columns, tags, mask: self.mask_kind(&mask.mask)?, unless: mask.unless.map(|who| self.who(&who)).transpose()? })
    }

    fn columns(&self, list: &[Spanned<String>]) -> Result<Vec<ColumnPattern>, PolicyError> {
        list.iter()
            .map(|column| {
                ColumnPattern::parse(column.get_ref()).ok_or_else(|| {
                    self.fault(
                        column,
                        format!("`{}` is not `schema.relation.column`", column.get_ref()),
                        Some("for example `public.customers.ssn`, or `public.*.ssn`"),
                    )
                })
            })
            .collect()
    }

    fn mask_kind(&self, written: &Spanned<source::MaskKind>) -> Result<MaskKind, PolicyError> {
        use source::MaskName;
        let kind = written.get_ref();
        let wants = (kind.kind == MaskName::Constant, kind.kind == MaskName::Truncate, kind.kind == MaskName::Round);
        let has = (kind.value.is_some(), kind.unit.is_some(), kind.to.is_some());
        if wants != has || kind.to == Some(0) {
            let hint = "`constant` needs `value`, `truncate` needs `unit`, `round` needs `to` of at least 1, the others nothing";
            return Err(self.fault(written, "these settings do not fit the mask", Some(hint)));
        }
        Ok(match kind.kind {
            MaskName::Full => MaskKind::Full,
            MaskName::Last4 => MaskKind::Last4,
            MaskName::Email => MaskKind::Email,
            MaskName::Null => MaskKind::Null,
            MaskName::Hash => MaskKind::Hash,
            MaskName::Token => MaskKind::Token,
            MaskName::Constant => MaskKind::Constant(kind.value.clone().unwrap_or_default()),
            MaskName::Truncate => MaskKind::Truncate(kind.unit.unwrap_or(source::TimeUnit::Year)),
            MaskName::Round => MaskKind::Round(kind.to.unwrap_or(1)),
        })
    }

    pub(super) fn masking(&self, masking: source::Masking, roster: &Roster) -> Result<Masking, PolicyError> {
        let predicates = match (masking.predicates, masking.hold) {
            (None, None) => Action::Deny(None),
            (Some(action), hold) => match (action.get_ref(), hold) {
                (source::Action::Hold, Some(hold)) => Action::Hold(self.hold(hold, roster)?),
                (source::Action::Hold, None) => {
                    return Err(self.fault(&action, "a hold needs its terms", Some("add `hold = { … }` to [masking]")));
                }
                (_, Some(hold)) => return Err(self.fault(&hold, "terms of a hold without `predicates = \"hold\"`", None)),
                (source::Action::Allow, None) => Action::Allow,
                (source::Action::Deny, None) => Action::Deny(None),
            },
            (None, Some(hold)) => Action::Hold(self.hold(hold, roster)?),
        };
        let aggregates = match masking.aggregates {
            None => None,
            Some(written) => {
                let source::Aggregates { functions, min_rows } = written.into_inner();
                if *min_rows.get_ref() < 2 {
                    let hint = "a result made of one value is that value, so use at least 2, better 10";
                    return Err(self.fault(&min_rows, "min_rows is out of range", Some(hint)));
                }
                for function in functions.get_ref() {
                    if matches!(
                        function.get_ref().as_str(),
                        "min" | "max" | "array_agg" | "string_agg" | "json_agg" | "jsonb_agg" | "any_value" | "mode"
                    ) {
                        let message = format!("`{}` shows single values whatever the number of rows", function.get_ref());
                        return Err(self.fault(function, message, Some("list aggregates like `avg`, `sum` and `stddev`")));
                    }
                }
                Some((names(functions.get_ref()), *min_rows.get_ref()))
            }
        };
        let unmask = match masking.unmask {
            None => None,
            Some(written) => {
                let span = written.span();
                let source::Unmask { who, reviewers, quorum, expiry } = written.into_inner();
                let hold = source::Hold {
                    reviewers,
                    quorum,
                    expiry,
                    reason: None,
                    on_hold: None,
                    runs: None,
                    step_up: false,
                    estimate: false,
                    channel: None,
                    mention: None,
                    remind: None,
                    escalate: None,
                    break_glass: None,
                };
                let hold = self.hold(Spanned::new(span, hold), roster)?;
                Some(Unmask { who: who.map(|who| self.who(&who)).transpose()?, hold })
            }
        };
        Ok(Masking {
            predicates,
            aggregates,
            functions: names(&masking.functions),
            unmask,
            notifications: masking.notifications.unwrap_or_default(),
        })
    }

    pub(super) fn detect(&self, detect: source::Detect) -> Result<Detect, PolicyError> {
        use source::DetectorName as Name;
        let mut kinds = Vec::new();
        for name in &detect.kinds {
            match name.get_ref() {
                Name::All => kinds.extend(Kind::BUILT_IN),
                Name::Ssn => kinds.push(Kind::Ssn),
                Name::Card => kinds.push(Kind::Card),
                Name::Iban => kinds.push(Kind::Iban),
                Name::Routing => kinds.push(Kind::Routing),
                Name::Account => kinds.push(Kind::Account),
                Name::Email => kinds.push(Kind::Email),
                Name::Phone => kinds.push(Kind::Phone),
            }
        }
        let mut patterns = Vec::with_capacity(detect.patterns.len());
        for source::DetectPattern { name, regex, keep } in &detect.patterns {
            if name.get_ref().trim().is_empty() || name.get_ref().chars().any(char::is_control) {
                return Err(self.fault(name, "a pattern needs a name", None));
            }
            let pattern = Pattern::new(name.get_ref(), regex.get_ref(), *keep);
            patterns.push(pattern.map_err(|error| self.bad_pattern(regex, &error))?);
        }
        let detectors = match (Detectors::of(&kinds).with(patterns), detect.patterns.first()) {
            (Ok(detectors), _) => detectors,
            (Err(error), Some(first)) => return Err(self.bad_pattern(&first.regex, &error)),
            (Err(_), None) => Detectors::of(&kinds),
        };
        Ok(Detect { detectors, except: self.columns(&detect.except)?, unless: detect.unless.map(|who| self.who(&who)).transpose()? })
    }

    fn bad_pattern(&self, regex: &Spanned<String>, error: &InvalidPattern) -> PolicyError {
        self.fault(
            regex,
            format!("this pattern cannot be used: {error}"),
            Some("a literal TOML string in single quotes needs no doubled backslashes"),
        )
    }
}

fn names(list: &[Spanned<String>]) -> Vec<String> {
    list.iter().map(|name| name.get_ref().to_ascii_lowercase()).collect()
}
