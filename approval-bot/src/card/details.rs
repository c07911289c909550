//! Everything of a request that reviewers are shown, as text made visible. Pure; for the card, the page and the link alike.

use countersign_approval::Request;

use super::{MAX_DETAIL, MAX_LINES, MAX_MESSAGE};
use crate::{values, visible};

/// Everything that is shown, made visible.
pub(crate) struct Details {
    pub(crate) why: Vec<(String, String)>,
    pub(crate) who: Vec<(String, String)>,
    pub(crate) statement: String,
    pub(crate) parameters: String,
    pub(crate) notes: Vec<String>,
}

impl Details {
    pub(crate) fn of(request: &Request) -> Self {
        let requester = &request.requester;
        let own = |label: &str, value: &str| (label.to_owned(), visible::line(value));
        let mut why = vec![own("Held because", &request.reason), own("Rule", &request.rule)];
        why.extend(request.facts.iter().map(|(label, value)| (capital(&visible::line(label)), visible::line(value))));
        why.push(own("Database", &request.database));
        let mut who = vec![own("Requester", &requester.subject)];
        who.extend(requester.email.iter().map(|email| own("E-mail", email)));
        if !requester.groups.is_empty() {
            who.push(own("Groups", &requester.groups.join(", ")));
        }
        who.push(own("Issuer", &requester.issuer));
        who.extend(run_of(requester).map(|run| ("Run".to_owned(), run)));
        // Claims keep their names as they are, so that none passes for a line of ours.
        who.extend(requester.claims.iter().map(|(name, value)| (format!("claim {}", visible::line(name)), visible::line(value))));
        let statement = visible::text(&request.statement);
        let mut notes = statement.notes();
        let shown: Vec<String> = request.parameters.iter().zip(1..).map(|(value, number)| values::show(number, value)).collect();
        let parameters = shown.join("\n");
        let texts = request.parameters.iter().filter_map(text_of).chain(request.facts.iter().map(|(_, value)| value.clone()));
        let values = visible::text(&texts.collect::<Vec<_>>().join(" "));
        notes.extend(values.notes().into_iter().filter(|note| !statement.notes().contains(note)));
        let mut notes: Vec<String> = notes.into_iter().map(|note| format!("The statement, a value or a name {note}.")).collect();
        let names = [Some(&requester.subject), requester.email.as_ref()].into_iter().flatten().chain(&requester.groups);
        let names = visible::text(&names.map(String::as_str).collect::<Vec<_>>().join(" "));
        notes.extend(names.notes().into_iter().map(|note| format!("The requester's name, address or group {note}.")));
        Self { why, who, statement: statement.text, parameters, notes }
    }

    /// All labelled lines.
    pub(super) fn lines(&self) -> impl Iterator<Item = &(String, String)> {
        self.why.iter().chain(&self.who)
    }

    /// Characters shown, with a share for labels and the fixed parts.
    pub(super) fn size(&self) -> usize {
        let labelled = self.lines().map(|(label, value)| visible::units(label).saturating_add(visible::units(value)));
        let notes = self.notes.iter().map(|note| visible::units(note));
        labelled
            .map(|line| line.saturating_add(4))
            .chain(notes)
            .chain([visible::units(&self.statement), visible::units(&self.parameters)])
            .fold(0, usize::saturating_add)
    }

    /// Whether all of it fits on a card.
    pub(super) fn fits(&self) -> bool {
        let texts = self.lines().map(|(_, value)| value).chain(&self.notes);
        self.size() <= MAX_MESSAGE - 3_000
            && texts.map(|text| visible::units(text)).all(|units| units <= MAX_DETAIL)
            && self.why.len() <= MAX_LINES
            && self.who.len() <= MAX_LINES
    }
}

/// Where to look at the CI run that asks: only from claims of an issuer whose addresses are known, and only of the form they have there.
fn run_of(requester: &countersign_approval::v1::Requester) -> Option<String> {
    let claim = |name: &str| requester.claims.get(name).map(String::as_str);
    let named = |text: &str| {
        let word = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        text.len() <= 200 && text.split_once('/').is_some_and(|(owner, name)| word(owner) && word(name))
    };
    let number = |text: &str| (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    match requester.issuer.as_str() {
        "https://token.actions.githubusercontent.com" => {
            let (repository, run) = (claim("repository").filter(|name| named(name))?, claim("run_id").filter(|run| number(run))?);
            Some(format!("https://github.com/{repository}/actions/runs/{run}"))
        }
        "https://gitlab.com" => {
            let (project, job) = (claim("project_path").filter(|name| named(name))?, claim("job_id").filter(|job| number(job))?);
            Some(format!("https://gitlab.com/{project}/-/jobs/{job}"))
        }
        _ => None,
    }
}

/// With a capital first letter.
fn capital(label: &str) -> String {
    let mut letters = label.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The text of a text parameter, for notes about its characters.
fn text_of(parameter: &countersign_approval::v1::RequestParameter) -> Option<String> {
    // Drivers send texts in binary as well, which is the same bytes.
    let is_text = parameter.format == 0 || matches!(parameter.type_oid, 18 | 19 | 25 | 114 | 142 | 705 | 1042 | 1043 | 3802);
    String::from_utf8(parameter.bytes()??).ok().filter(|_| is_text)
}
