//! From the document as written to a [`Policy`]: every fault with its place and a way to mend it.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::{Policy, PolicyDigest, PolicyError, source};
use crate::StatementKind;
use crate::pattern::{Glob, NamePattern};
use crate::roster::{GroupSource, Person, Roster};
use crate::rule::{Action, BreakGlass, BreakGlassTerms, Hold, Route, Rule, Settings, SignedTemplate, TrustedFunction, What, When, Who};

mod groups;
mod masks;

const DEFAULT_STATEMENT_BYTES: usize = 2 << 20;
const GREATEST_STATEMENT_BYTES: usize = 16 << 20;
const DEFAULT_STATEMENTS: usize = 1000;
const LONGEST_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long reviewing a statement that ran at once may take, where the document does not say.
const REVIEW_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// Most templates in one document.
const MOST_TEMPLATES: usize = 1_000;
/// Most identical runs one approval may be for.
const MOST_RUNS: u32 = 100;

/// A fault TOML itself or the document's shape found.
pub(super) fn syntax(text: &str, error: &toml::de::Error) -> PolicyError {
    let span = error.span().unwrap_or(0..0);
    let message = error.message().lines().next().unwrap_or("not a policy").to_owned();
    let hint = if message.starts_with("unknown field") {
        Some("remove the key, or see docs/policy.md for the keys there are".to_owned())
    } else if message.starts_with("unknown variant") {
        Some("use one of the values listed".to_owned())
    } else if message.starts_with("missing field `version`") {
        Some("begin the document with `version = 1`".to_owned())
    } else {
        None
    };
    fault(text, &span, message, hint.as_deref())
}

fn fault(text: &str, span: &Range<usize>, message: impl Into<String>, hint: Option<&str>) -> PolicyError {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    PolicyError { line, column, message: message.into(), hint: hint.map(str::to_owned) }
}

pub(super) fn policy(text: &str, digest: PolicyDigest, document: source::Document) -> Result<Policy, PolicyError> {
    let check = Check { text };
    if *document.version.get_ref() != 1 {
        return Err(check.fault(&document.version, "unknown document version", Some("this program reads `version = 1`")));
    }
    let roster = check.roster(&document.reviewers, check.sources(&document.reviewer_groups)?)?;
    let mut names = HashSet::new();
    let mut rules = Vec::with_capacity(document.rules.len());
    for rule in document.rules {
        if !names.insert(rule.name.get_ref().clone()) {
            return Err(check.fault(
                &rule.name,
                format!("two rules are named `{}`", rule.name.get_ref()),
                Some("give each rule a name of its own"),
            ));
        }
        rules.push(check.rule(rule, &roster)?);
    }
    Ok(Policy {
        digest,
        settings: check.settings(&document.settings)?,
        masks: document.masks.into_iter().map(|mask| check.mask(mask)).collect::<Result<_, _>>()?,
        masking: check.masking(document.masking, &roster)?,
        detect: document.detect.into_iter().map(|detect| check.detect(detect)).collect::<Result<_, _>>()?,
        trusted_functions: document.trusted_functions.into_iter().map(|trusted| check.trusted(&trusted)).collect::<Result<_, _>>()?,
        templates: check.templates(document.templates)?,
        roster,
        rules,
    })
}

struct Check<'a> {
    text: &'a str,
}

impl Check<'_> {
    fn fault<T>(&self, at: &Spanned<T>, message: impl Into<String>, hint: Option<&str>) -> PolicyError {
        fault(self.text, &at.span(), message, hint)
    }

    fn settings(&self, settings: &source::Settings) -> Result<Settings, PolicyError> {
        let max_statement_bytes = match &settings.max_statement_bytes {
            Some(limit) if *limit.get_ref() == 0 || *limit.get_ref() > GREATEST_STATEMENT_BYTES => {
                return Err(self.fault(limit, "max_statement_bytes is out of range", Some("use 1 to 16777216")));
            }
            Some(limit) => *limit.get_ref(),
            None => DEFAULT_STATEMENT_BYTES,
        };
        let max_statements = match &settings.max_statements {
            Some(limit) if *limit.get_ref() == 0 || *limit.get_ref() > 100_000 => {
                return Err(self.fault(limit, "max_statements is out of range", Some("use 1 to 100000")));
            }
            Some(limit) => *limit.get_ref(),
            None => DEFAULT_STATEMENTS,
        };
        Ok(Settings { max_statement_bytes, max_statements })
    }

    fn roster(&self, reviewers: &[source::Reviewer], sources: Vec<GroupSource>) -> Result<Roster, PolicyError> {
        let (mut names, mut slacks, mut links, mut emails) = (HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new());
        let mut people = Vec::with_capacity(reviewers.len());
        for reviewer in reviewers {
            let name = reviewer.person.get_ref();
            if name.trim().is_empty() {
                return Err(self.fault(&reviewer.person, "a reviewer has no name", Some("give `person` a stable name")));
            }
            if !names.insert(name.clone()) {
                return Err(self.fault(
                    &reviewer.person,
                    format!("two reviewers are named `{name}`"),
                    Some("one entry per person, with all of their groups"),
                ));
            }
            let slack = match &reviewer.slack {
                None => None,
                Some(written) => match written.get_ref().split_once('/') {
                    Some((team, user)) if !team.is_empty() && !user.is_empty() && !user.contains('/') => {
                        Some((team.to_owned(), user.to_owned()))
                    }
                    _ => return Err(self.fault(written, "not a Slack identity", Some("write `TEAM/USER`, for example `T0BANK/U0DANA`"))),
                },
            };
            if let (Some(identity), Some(written)) = (&slack, &reviewer.slack)
                && !slacks.insert(identity.clone())
            {
                return Err(self.fault(
                    written,
                    "two reviewers have the same Slack identity",
                    Some("a quorum counts people, so each needs their own"),
                ));
            }
            if let Some(email) = &reviewer.email
                && !emails.insert(email.get_ref().to_ascii_lowercase())
            {
                return Err(self.fault(email, "two reviewers have the same e-mail address", None));
            }
            for link in &reviewer.subjects {
                if !link.get_ref().split_once('|').is_some_and(|(issuer, subject)| !issuer.is_empty() && !subject.is_empty()) {
                    return Err(self.fault(
                        link,
                        "not an identity link",
                        Some("write `issuer|subject`, for example `https://issuer.example/|dana`"),
                    ));
                }
                if !links.insert(link.get_ref().clone()) {
                    return Err(self.fault(link, "two reviewers have the same identity link", None));
                }
            }
            if reviewer.groups.get_ref().iter().any(|group| group.is_empty()) || reviewer.groups.get_ref().is_empty() {
                return Err(self.fault(
                    &reviewer.groups,
                    format!("`{name}` is in no group"),
                    Some("name the groups this person reviews for"),
                ));
            }
            people.push(Person {
                name: name.clone(),
                email: reviewer.email.as_ref().map(|email| email.get_ref().clone()),
                slack,
                subjects: reviewer.subjects.iter().map(|link| link.get_ref().clone()).collect(),
                groups: reviewer.groups.get_ref().iter().cloned().collect(),
            });
        }
        Ok(Roster::new(people, sources))
    }

    fn rule(&self, rule: source::Rule, roster: &Roster) -> Result<Rule, PolicyError> {
        let name = rule.name.get_ref();
        if name.trim().is_empty() || name == "default" || name.starts_with("countersign") {
            return Err(self.fault(
                &rule.name,
                "this rule name is reserved",
                Some("use another name; `default` is what no match is called"),
            ));
        }
        let action = match (rule.action.get_ref(), rule.hold, rule.message) {
            (source::Action::Hold, Some(hold), None) => Action::Hold(self.hold(hold, roster)?),
            (source::Action::Hold, None, _) => {
                return Err(self.fault(
                    &rule.action,
                    "a hold needs its terms",
                    Some("add `hold = { reviewers = [\"…\"], quorum = 1, expiry = \"15m\" }`"),
                ));
            }
            (source::Action::Deny, None, message) => Action::Deny(message.map(Spanned::into_inner)),
            (source::Action::Allow, None, None) => Action::Allow,
            (_, Some(hold), _) => {
                return Err(self.fault(
                    &hold,
                    "terms of a hold in a rule that does not hold",
                    Some("set `action = \"hold\"` or remove `hold`"),
                ));
            }
            (_, None, Some(message)) => {
                return Err(self.fault(&message, "only a denial has a message", Some("remove `message`; a hold has `reason`")));
            }
        };
        let databases = match rule.place.databases {
            Some(list) if list.get_ref().is_empty() => {
                return Err(self.fault(&list, "an empty list matches nothing", Some("remove it to match every database")));
            }
            Some(list) => list.get_ref().iter().map(|database| Glob::new(database)).collect(),
            None => Vec::new(),
        };
        Ok(Rule {
            name: name.clone(),
            who: rule.who.map(|who| self.who(&who)).transpose()?.unwrap_or_default(),
            databases,
            what: self.what(rule.what)?,
            when: rule.when.map(|when| self.when(&when)).transpose()?,
            action,
        })
    }

    fn who(&self, who: &Spanned<source::Who>) -> Result<Who, PolicyError> {
        let globs = |list: &Option<Vec<String>>| -> Result<Vec<Glob>, PolicyError> {
            match list {
                Some(list) if list.is_empty() => Err(self.fault(who, "an empty list matches nobody", Some("remove it to match everybody"))),
                Some(list) => Ok(list.iter().map(|pattern| Glob::new(pattern)).collect()),
                None => Ok(Vec::new()),
            }
        };
        let written = who.get_ref();
        let mut claims = std::collections::BTreeMap::new();
        for (name, values) in &written.claims {
            claims.insert(name.clone(), globs(&Some(values.clone()))?);
        }
        let parsed = Who { groups: globs(&written.groups)?, subjects: globs(&written.subjects)?, emails: globs(&written.emails)?, claims };
        if parsed.groups.is_empty() && parsed.subjects.is_empty() && parsed.emails.is_empty() && parsed.claims.is_empty() {
            return Err(self.fault(who, "these conditions on the principal are empty", Some("remove them to match everybody")));
        }
        Ok(parsed)
    }

    fn what(&self, what: source::What) -> Result<What, PolicyError> {
        let kinds = match what.kinds {
            Some(list) if list.get_ref().is_empty() => {
                return Err(self.fault(&list, "an empty list matches nothing", Some("remove it to match every kind")));
            }
            Some(list) => list.into_inner(),
            None => Vec::new(),
        };
        Ok(What {
            kinds,
            relations: self.names(what.relations, "public.accounts")?,
            functions: self.names(what.functions, "public.interest")?,
            missing_where: what.missing_where,
            rows_above: what.rows_above,
        })
    }

    fn names(&self, list: Option<Spanned<Vec<Spanned<String>>>>, example: &str) -> Result<Vec<NamePattern>, PolicyError> {
        match list {
            None => Ok(Vec::new()),
            Some(list) if list.get_ref().is_empty() => {
                Err(self.fault(&list, "an empty list matches nothing", Some("remove it to match everything")))
            }
            Some(list) => list
                .get_ref()
                .iter()
                .map(|written| {
                    NamePattern::parse(written.get_ref()).ok_or_else(|| {
                        self.fault(
                            written,
                            format!("`{}` is not `schema.name`", written.get_ref()),
                            Some(&format!("write the schema too, for example `{example}` or `public.*`")),
                        )
                    })
                })
                .collect(),
        }
    }

    fn hold(&self, hold: Spanned<source::Hold>, roster: &Roster) -> Result<Hold, PolicyError> {
        let hold = hold.into_inner();
        let reviewers = self.reviewers(&hold.reviewers, roster)?;
        let quorum = hold.quorum.as_ref().map_or(1, |quorum| *quorum.get_ref());
        let members = roster.members(&reviewers).count();
        let sources = roster.sources_of(&reviewers);
        if let Some(written) = &hold.quorum {
            if quorum == 0 {
                return Err(self.fault(written, "a quorum of 0 approves itself", Some("use at least 1")));
            }
            // How many Slack or an identity provider knows, nobody can say now.
            if sources.is_empty() && usize::try_from(quorum).is_ok_and(|quorum| quorum > members) {
                return Err(self.fault(
                    written,
                    format!("a quorum of {quorum} can never be met: these groups have {members} members"),
                    Some("lower the quorum or add reviewers"),
                ));
            }
        }
        let expiry = duration(hold.expiry.get_ref()).filter(|expiry| !expiry.is_zero() && *expiry <= LONGEST_EXPIRY).ok_or_else(|| {
            self.fault(
                &hold.expiry,
                format!("`{}` is not an expiry", hold.expiry.get_ref()),
                Some("write a number and s, m, h or d, at most 7d: `15m`"),
            )
        })?;
        let runs = hold.runs.as_ref().map_or(1, |runs| *runs.get_ref());
        if let Some(written) = hold.runs.as_ref().filter(|_| !(1..=MOST_RUNS).contains(&runs)) {
            return Err(self.fault(written, format!("{runs} runs cannot be approved at once"), Some(&format!("use 1 to {MOST_RUNS}"))));
        }
        let within = |written: &Spanned<String>| {
            duration(written.get_ref()).filter(|time| !time.is_zero() && *time < expiry).ok_or_else(|| {
                let message = format!("`{}` is not a time within the expiry", written.get_ref());
                self.fault(written, message, Some("write a number and s, m, h or d, less than `expiry`: `5m`"))
            })
        };
        let route = Route {
            channel: hold.channel.map(|channel| self.slack_id(&channel, "CG", "a Slack channel, `C…`")).transpose()?,
            mention: hold.mention.map(|group| self.slack_id(&group, "S", "a Slack user group, `S…`")).transpose()?,
            remind: hold.remind.as_ref().map(within).transpose()?,
            escalate: match &hold.escalate {
                Some(escalate) => Some((within(&escalate.after)?, self.slack_id(&escalate.mention, "S", "a Slack user group, `S…`")?)),
                None => None,
            },
        };
        let break_glass =
            hold.break_glass.map(|written| self.break_glass(written, &reviewers, &route, roster).map(Box::new)).transpose()?;
        Ok(Hold {
            break_glass,
            reviewers,
            sources,
            quorum,
            expiry,
            reason: hold.reason.unwrap_or_default(),
            on_hold: hold.on_hold.unwrap_or_default(),
            runs,
            step_up: hold.step_up,
            estimate: hold.estimate,
            route,
        })
    }

    /// Groups of the roster, at least one.
    fn reviewers(&self, written: &Spanned<Vec<Spanned<String>>>, roster: &Roster) -> Result<Vec<String>, PolicyError> {
        let listed = roster.people().iter().flat_map(|person| &person.groups);
        let known: BTreeSet<&String> = listed.chain(roster.sources().iter().map(|source| &source.group)).collect();
        let mut reviewers = Vec::new();
        for group in written.get_ref() {
            if !known.contains(group.get_ref()) {
                let hint = if known.is_empty() {
                    "add a [[reviewers]] entry whose `groups` name it, or a [[reviewer_groups]] entry".to_owned()
                } else {
                    format!("groups in the roster: {}", known.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "))
                };
                return Err(self.fault(group, format!("no reviewer is in the group `{}`", group.get_ref()), Some(&hint)));
            }
            reviewers.push(group.get_ref().clone());
        }
        if reviewers.is_empty() {
            return Err(self.fault(written, "a hold needs at least one group of reviewers", None));
        }
        Ok(reviewers)
    }

    fn break_glass(
        &self,
        written: source::BreakGlass,
        reviewers: &[String],
        route: &Route,
        roster: &Roster,
    ) -> Result<BreakGlass, PolicyError> {
        let groups = written.groups.get_ref();
        if groups.is_empty() || groups.iter().any(|group| group.is_empty() || group.contains('*')) {
            return Err(self.fault(&written.groups, "break_glass needs whole names of groups", Some("name those who may run it at once")));
        }
        let review_within = match &written.review_within {
            None => REVIEW_WITHIN,
            Some(time) => duration(time.get_ref()).filter(|time| !time.is_zero() && *time <= LONGEST_EXPIRY).ok_or_else(|| {
                self.fault(
                    time,
                    format!("`{}` is not a time for a review", time.get_ref()),
                    Some("write a number and s, m, h or d, at most 7d: `1d`"),
                )
            })?,
        };
        let reviewers = match &written.reviewers {
            None => reviewers.to_vec(),
            Some(own) => self.reviewers(own, roster)?,
        };
        let channel = written.channel.map(|channel| self.slack_id(&channel, "CG", "a Slack channel, `C…`")).transpose()?;
        let mention = written.mention.map(|group| self.slack_id(&group, "S", "a Slack user group, `S…`")).transpose()?;
        let route = Route {
            channel: channel.or_else(|| route.channel.clone()),
            mention: mention.or_else(|| route.mention.clone()),
            // Half of the time is left then.
            remind: Some(review_within / 2),
            escalate: None,
        };
        Ok(BreakGlass {
            terms: BreakGlassTerms { groups: groups.clone(), sources: roster.sources_of(&reviewers), reviewers, review_within },
            route,
        })
    }

    fn templates(&self, written: Vec<source::Template>) -> Result<Vec<SignedTemplate>, PolicyError> {
        if let Some(excess) = written.get(MOST_TEMPLATES) {
            return Err(self.fault(&excess.request, "more than 1000 templates", Some("remove those that are no longer good")));
        }
        if let Some(unsigned) = written.iter().find(|template| template.decisions.is_empty()) {
            return Err(self.fault(
                &unsigned.request,
                "a template without decisions",
                Some("copy what `countersign-proxy template` printed"),
            ));
        }
        let signed = |template: source::Template| SignedTemplate { request: template.request.into_inner(), decisions: template.decisions };
        Ok(written.into_iter().map(signed).collect())
    }

    /// An id of Slack's: it ends up in markup, so nothing but letters and digits may be in it.
    fn slack_id(&self, written: &Spanned<String>, kinds: &str, what: &str) -> Result<String, PolicyError> {
        let id = written.get_ref();
        let fits = id.len() >= 2 && id.len() <= 32 && id.starts_with(|first| kinds.contains(first));
        if fits && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
            return Ok(id.clone());
        }
        Err(self.fault(written, format!("`{id}` is not the id of {what}"), None))
    }

    fn when(&self, when: &source::When) -> Result<When, PolicyError> {
        let mut days = Vec::new();
        for day in when.days.iter().flatten() {
            let index = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].iter().position(|name| name == day.get_ref());
            let index = index.and_then(|index| u8::try_from(index).ok());
            days.push(index.ok_or_else(|| self.fault(day, "not a day of the week", Some("use mon, tue, wed, thu, fri, sat, sun")))?);
        }
        let minute = |written: &Option<Spanned<String>>, default: u32| match written {
            None => Ok(default),
            Some(written) => {
                minutes(written.get_ref()).ok_or_else(|| self.fault(written, "not a time of day", Some("write `HH:MM`, at most 24:00")))
            }
        };
        let offset = match &when.offset {
            None => 0,
            Some(written) => {
                let (sign, rest) = match written.get_ref().split_at_checked(1) {
                    Some(("+", rest)) => (60, rest),
                    Some(("-", rest)) => (-60, rest),
                    _ => (0, ""),
                };
                minutes(rest)
                    .filter(|minutes| *minutes <= 14 * 60)
                    .and_then(|minutes| i32::try_from(minutes).ok())
                    .map(|minutes| minutes * sign)
                    .ok_or_else(|| self.fault(written, "not an offset from UTC", Some("write `+02:00`")))?
            }
        };
        Ok(When { days, from: minute(&when.from, 0)?, until: minute(&when.until, 24 * 60)?, offset })
    }

    fn trusted(&self, trusted: &source::TrustedFunction) -> Result<TrustedFunction, PolicyError> {
        let name = NamePattern::parse(trusted.name.get_ref())
            .ok_or_else(|| self.fault(&trusted.name, "not `schema.name`", Some("for example `public.interest`")))?;
        let literal = |list: &[Spanned<String>]| -> Result<Vec<(String, String)>, PolicyError> {
            list.iter()
                .map(|written| match NamePattern::parse(written.get_ref()) {
                    Some(name) if name.schema.is_literal() && name.name.is_literal() => {
                        Ok((name.schema.as_str().to_owned(), name.name.as_str().to_owned()))
                    }
                    _ => Err(self.fault(written, "not one `schema.name`", Some("name each relation in full"))),
                })
                .collect()
        };
        let kind = trusted.kind.as_ref().map_or(StatementKind::Read, |kind| *kind.get_ref());
        Ok(TrustedFunction { name, kind, reads: literal(&trusted.reads)?, writes: literal(&trusted.writes)?, clear: trusted.clear })
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(seconds)?))
}

fn minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (hours.parse::<u32>().ok()?, minutes.parse::<u32>().ok()?);
    let total = hours.checked_mul(60)?.checked_add(minutes)?;
    (minutes < 60 && total <= 24 * 60).then_some(total)
}
