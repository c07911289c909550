//! What a session has done that changes the meaning of what it says next.
//!
//! The proxy learns that a statement was *forwarded*, not always whether it *worked*. So state is a set of possibilities: after
//! `SET search_path` both the old and the new path are possible until [`SessionState::completed`] settles it, and a name is
//! judged under all of them.

use std::collections::{HashMap, HashSet};

use countersign_masking::TextStyle;

use crate::decision::{Effect, Lasts, Written};
use crate::{Judgement, Principal, StatementFacts, StatementKind};

pub(crate) mod changes;
pub(crate) mod settings;
pub(crate) mod told;

use changes::Changes;
use settings::Settings;
use told::Told;

const MOST_PATHS: usize = 6;
/// What `$user` may stand for; only those who have a schema of their name make a difference.
const MOST_ROLES: usize = 64;
const MOST_NAMES: usize = 4096;
const MOST_CANDIDATES: usize = 4;

/// Bytes of texts of prepared statements, and of cursors, that are kept for a session.
const MOST_TEXT: usize = 4 << 20;

/// A search path: schema names as written, `$user` included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SearchPath {
    /// The database's default for the upstream role.
    Default,
    /// These schemas.
    Schemas(Vec<String>),
}

impl SearchPath {
    /// Whether the schema of temporary objects is listed.
    pub(crate) fn names_temporary(&self) -> bool {
        matches!(self, Self::Schemas(schemas) if schemas.iter().any(|schema| schema.starts_with("pg_temp")))
    }

    /// Whether a schema is listed.
    pub(crate) fn names(&self, name: &str) -> bool {
        matches!(self, Self::Schemas(schemas) if schemas.iter().any(|schema| schema == name))
    }
}

/// Tracks `search_path`, SQL-level prepared statements, cursors, temporary objects and transaction mode for one session.
#[derive(Debug, Clone)]
pub struct SessionState {
    pub(crate) paths: Vec<SearchPath>,
    pub(crate) path_unknown: bool,
    pub(crate) poisoned: Option<&'static str>,
    pub(crate) temporary: bool,
    /// Code whose inside is not followed ran in this session.
    pub(crate) code_ran: bool,
    /// What `$user` may mean besides the user of the login.
    pub(crate) roles: Vec<String>,
    pub(crate) changes: Changes,
    pub(crate) settings: Settings,
    style: TextStyle,
    told: Told,
    prepared: HashMap<String, Vec<Remembered>>,
    cursors: HashMap<String, Vec<Remembered>>,
    /// Names under which the protocol made something at the server: what SQL says of them is not what they are.
    protocol_statements: HashSet<String>,
    protocol_portals: HashSet<String>,
    names_lost: bool,
    in_transaction: bool,
    epoch: u64,
    /// The search path of the login, to which RESET goes back; `None`: what the catalog says is the default.
    login_path: Option<SearchPath>,
}

impl Default for SessionState {
    fn default() -> Self {
        Self {
            paths: vec![SearchPath::Default],
            path_unknown: false,
            poisoned: None,
            temporary: false,
            code_ran: false,
            roles: Vec::new(),
            changes: Changes::default(),
            settings: Settings::default(),
            style: TextStyle::default(),
            told: Told::default(),
            prepared: HashMap::new(),
            cursors: HashMap::new(),
            protocol_statements: HashSet::new(),
            protocol_portals: HashSet::new(),
            names_lost: false,
            in_transaction: false,
            epoch: 0,
            login_path: None,
        }
    }
}

/// A statement that runs later, and the search paths under which it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Remembered {
    pub(crate) written: Written,
    pub(crate) paths: Vec<SearchPath>,
}

/// Transaction status of `ReadyForQuery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// `I`
    Idle,
    /// `T`
    InTransaction,
    /// `E`
    Failed,
}

impl SessionState {
    /// State right after login. `parameters` are the server's ParameterStatus values.
    #[must_use]
    pub fn new(principal: &Principal, database: &str, parameters: &[(String, String)]) -> Self {
        let _ = (principal, database);
        let mut state = Self::default();
        for (name, value) in parameters {
            state.parameter(name, value);
        }
        state
    }

    /// The same where the server was asked for the search path of the login: the facts at hand may have another default by now.
    #[must_use]
    pub fn with_search_path(mut self, path: &str) -> Self {
        match parse_path(path) {
            Some(path) => {
                self.paths = vec![path.clone()];
                self.login_path = Some(path);
            }
            None => self.path_unknown = true,
        }
        self
    }

    /// The server was asked after code had run. `settled`: no transaction is open that could take back what was set before; `role`: the one that
    /// is set, if any.
    pub fn asked(&mut self, path: &str, role: Option<&str>, settled: bool) {
        match (parse_path(path), settled && self.roles.len() < MOST_ROLES) {
            (Some(path), true) => {
                let paths = vec![path];
                if self.path_unknown || self.paths != paths {
                    (self.paths, self.path_unknown) = (paths, false);
                    self.epoch += 1;
                }
            }
            (path, _) => self.apply(&Effect::SearchPath { path, lasts: Lasts::Perhaps }),
        }
        if let Some(role) = role {
            self.apply(&Effect::Role(role.to_owned()));
        }
    }

    /// Temporary relations and types that are there after code had run. Where the client made none itself, each is the code's; where it did, nothing is sure
    /// until the facts show what the open transaction made.
    pub fn found_temporary(&mut self, relations: &[String], types: &[String], settled: bool) {
        if !self.temporary {
            let relations = relations.iter().cloned().map(changes::Change::Temporary);
            for change in relations.chain(types.iter().cloned().map(changes::Change::TemporaryType)) {
                self.apply(&Effect::Changed(change));
            }
        } else if (!relations.is_empty() || !types.is_empty()) && !settled {
            let views = "code ran where temporary relations are, which may have made another of a name";
            self.apply(&Effect::Changed(changes::Change::Everything(views)));
        }
    }

    /// What a path is in this session.
    pub(crate) fn own_path(&self, path: &SearchPath) -> SearchPath {
        match (path, &self.login_path) {
            (SearchPath::Default, Some(login)) => login.clone(),
            _ => path.clone(),
        }
    }

    /// One judged text was forwarded (its effects on state may come true from here on).
    pub fn forwarded(&mut self, judgement: &Judgement) {
        let runs_code = |facts: &StatementFacts| {
            matches!(facts.kind, StatementKind::Procedural | StatementKind::Unknown) || !facts.functions.is_empty()
        };
        if judgement.statements.iter().any(runs_code) {
            self.told.code();
        }
        self.forwarded_approved(judgement);
    }

    /// The same of a text that reviewers approved: they know what code it runs.
    pub fn forwarded_approved(&mut self, judgement: &Judgement) {
        for effect in &judgement.trace.effects {
            self.apply(effect);
        }
    }

    /// The server completed and committed a forwarded text, alone in its transaction, without an error. Optional; it settles what
    /// [`Self::forwarded`] left open, which only a lone SET does: `SET LOCAL` is over by now, and a text of several statements may have
    /// taken a SET back.
    pub fn completed(&mut self, judgement: &Judgement) {
        if judgement.statements.len() != 1 || self.in_transaction || self.path_unknown {
            return;
        }
        let mut effects = judgement.trace.effects.iter().filter(|effect| !matches!(effect, Effect::Setting(..)));
        if let (Some(Effect::SearchPath { path: Some(path), lasts: Lasts::Session }), None) = (effects.next(), effects.next()) {
            let path = self.own_path(path);
            if self.paths.len() > 1 || self.paths.first() != Some(&path) {
                self.paths = vec![path];
                self.epoch += 1;
            }
        }
    }

    /// Changes whenever an earlier judgement of some text might come out otherwise now. Judgements are cached per epoch.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a value that the server reports of a setting is the client's or the server's own. After code ran that can set anything, others
    /// may be made of whatever that code read.
    #[must_use]
    pub fn is_known_parameter(&self, name: &str, value: &str) -> bool {
        self.settings.is_known(name, value)
    }

    /// The server reported a parameter.
    pub fn parameter(&mut self, name: &str, value: &str) {
        self.settings.reported(name, value);
        self.style.reported(name, value);
        self.told.reported(name, value);
        let poison = match name {
            // The server reports UNICODE, another name of it, as the client wrote it.
            "client_encoding" if !value.eq_ignore_ascii_case("utf8") && !value.eq_ignore_ascii_case("unicode") => {
                Some("client_encoding is not UTF8")
            }
            "standard_conforming_strings" if value != "on" => Some("standard_conforming_strings is not on"),
            _ => None,
        };
        if let Some(poison) = poison {
            self.poisoned = Some(poison);
            self.epoch += 1;
        }
        if name == "search_path" {
            let path = parse_path(value);
            self.apply(&Effect::SearchPath { path, lasts: Lasts::Perhaps });
        }
    }

    /// How the session writes dates and intervals in text, by what the server reported last.
    #[must_use]
    pub const fn style(&self) -> TextStyle {
        self.style
    }

    /// The server reported its transaction status.
    pub fn ready(&mut self, status: TransactionStatus) {
        self.in_transaction = status != TransactionStatus::Idle;
    }

    /// A statement (or portal) that the protocol made may stand at the server under this name from now on, or no longer does.
    ///
    /// INVARIANT: while it may, nothing is known of the name to SQL, whatever PREPARE or DECLARE said before or say meanwhile: EXECUTE or
    /// FETCH would run what the protocol made.
    pub fn protocol_name(&mut self, portal: bool, name: &str, present: bool) {
        let (taken, known) = if portal {
            (&mut self.protocol_portals, self.cursors.contains_key(name))
        } else {
            (&mut self.protocol_statements, self.prepared.contains_key(name))
        };
        let changed = if present { taken.insert(name.to_owned()) } else { taken.remove(name) };
        if changed && known {
            self.epoch += 1;
        }
    }

    /// Names that SQL gave to prepared statements.
    pub fn prepared_names(&self) -> impl Iterator<Item = &str> {
        self.prepared.keys().map(String::as_str)
    }

    /// Names that SQL gave to cursors.
    pub fn cursor_names(&self) -> impl Iterator<Item = &str> {
        self.cursors.keys().map(String::as_str)
    }

    /// Forgets prepared statements and cursors, which the flag tells: nothing is known any more of what has the name.
    pub fn keep_names(&mut self, keep: impl Fn(bool, &str) -> bool) {
        let before = self.prepared.len() + self.cursors.len();
        self.prepared.retain(|name, _| keep(false, name));
        self.cursors.retain(|name, _| keep(true, name));
        if self.prepared.len() + self.cursors.len() != before {
            self.epoch += 1;
        }
    }

    /// Code ran in the middle of a text: what has a name may be something else.
    pub(crate) fn lose_names(&mut self) {
        self.names_lost = true;
        self.epoch += 1;
    }

    /// Whether SQL prepared a statement of this name, and nothing else can be it.
    #[must_use]
    pub fn has_prepared(&self, name: &str) -> bool {
        self.prepared(name).is_some()
    }

    /// Whether SQL declared a cursor of this name, and nothing else can be it.
    #[must_use]
    pub fn has_cursor(&self, name: &str) -> bool {
        self.cursor(name).is_some()
    }

    /// Whether names mean to this session what they would mean to a new one: no other search path or role, nothing temporary, no code whose
    /// inside is not followed.
    #[must_use]
    pub fn is_as_at_login(&self, catalog: &crate::Catalog) -> bool {
        let schemas =
            |path: &SearchPath| !path.names_temporary() && catalog.schemas_of(path, None) == catalog.schemas_of(&SearchPath::Default, None);
        self.paths.iter().all(schemas)
            && !self.path_unknown
            && self.poisoned.is_none()
            && !self.temporary
            && !self.code_ran
            && self.roles.is_empty()
            && !self.has_changes()
    }

    /// What this session did to the meaning of what it says next that no text shows: label and words, for reviewers.
    #[must_use]
    pub fn told(&self) -> Vec<(String, String)> {
        let mut told = self.told.clone();
        if self.path_unknown {
            told.code();
        }
        told.lines()
    }

    /// Whether a statement may mean anything else here than in a new session, by a setting, apart from times being those of another zone.
    #[must_use]
    pub fn is_altered(&self) -> bool {
        self.path_unknown || self.told.is_altered()
    }

    /// Whether the session changed the catalog in a way that the facts at hand do not show yet.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes.pending()
    }

    /// Catalog facts were loaded after every transaction of this session that changed the catalog had ended.
    pub fn catalog_loaded(&mut self) {
        if self.changes.pending() {
            self.changes.loaded();
            self.epoch += 1;
        }
    }

    pub(crate) fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::SearchPath { path: None, .. } => {
                if self.path_unknown {
                    return;
                }
                self.path_unknown = true;
            }
            Effect::SearchPath { path: Some(path), .. } => {
                let path = self.own_path(path);
                if self.paths.contains(&path) {
                    return;
                }
                if self.paths.len() >= MOST_PATHS {
                    self.path_unknown = true;
                } else {
                    self.paths.push(path);
                }
            }
            Effect::Prepare(name, written) => {
                self.names_lost |= !remember(&mut self.prepared, name, written, &self.paths);
            }
            Effect::Declare(name, written) => {
                self.names_lost |= !remember(&mut self.cursors, name, written, &self.paths);
            }
            Effect::TemporaryObjects => {
                if self.temporary {
                    return;
                }
                self.temporary = true;
            }
            Effect::CodeRan => {
                if self.code_ran {
                    return;
                }
                self.code_ran = true;
            }
            Effect::Setting(name, value) => {
                self.settings.know(name, value);
                self.told.given(name, value);
                return;
            }
            // Whoever forwards it asks the server; see `asked`.
            Effect::SettingsUnseen | Effect::CodePerhaps => return,
            Effect::SettingsForeign => {
                if self.settings.foreign {
                    return;
                }
                self.settings.foreign = true;
            }
            Effect::Role(role) => {
                if self.roles.contains(role) {
                    return;
                }
                if self.roles.len() >= MOST_ROLES {
                    self.path_unknown = true;
                } else {
                    self.roles.push(role.clone());
                }
            }
            Effect::Changed(change) => {
                if !self.changes.add(change) {
                    return;
                }
            }
        }
        self.epoch += 1;
    }

    /// What a prepared statement may be; `None` when nothing is known of the name.
    pub(crate) fn prepared(&self, name: &str) -> Option<&[Remembered]> {
        if self.names_lost || is_gateways(name) || self.protocol_statements.contains(name) {
            None
        } else {
            self.prepared.get(name).map(Vec::as_slice)
        }
    }

    /// What a cursor may run over; `None` when nothing is known of the name.
    pub(crate) fn cursor(&self, name: &str) -> Option<&[Remembered]> {
        if self.names_lost || is_gateways(name) || self.protocol_portals.contains(name) {
            None
        } else {
            self.cursors.get(name).map(Vec::as_slice)
        }
    }
}

/// Whether a prepared statement or portal of this name may be one that the gateway named itself. Such names are no secret
/// (`pg_prepared_statements`), so nothing that SQL says of one is believed: EXECUTE would run what the protocol made under it.
#[must_use]
pub fn is_gateways(name: &str) -> bool {
    name.starts_with("_cs") || name.starts_with("_cp")
}

fn remember(names: &mut HashMap<String, Vec<Remembered>>, name: &str, written: &Written, paths: &[SearchPath]) -> bool {
    let known_bytes: usize = names.values().flatten().map(|known| known.written.text.len()).sum();
    if !names.contains_key(name) && names.len() >= MOST_NAMES {
        return false;
    }
    let candidates = names.entry(name.to_owned()).or_default();
    if let Some(known) = candidates.iter_mut().find(|known| known.written == *written) {
        for path in paths {
            if !known.paths.contains(path) {
                known.paths.push(path.clone());
            }
        }
        return known.paths.len() <= MOST_PATHS;
    }
    if candidates.len() >= MOST_CANDIDATES {
        return false;
    }
    if known_bytes.saturating_add(written.text.len()) > MOST_TEXT {
        return false;
    }
    candidates.push(Remembered { written: written.clone(), paths: paths.to_vec() });
    true
}

/// The schemas that a text form of `search_path` names, as the server reads it; `None` when it reads nothing in it.
#[must_use]
pub fn search_path_names(text: &str) -> Option<Vec<String>> {
    match parse_path(text)? {
        SearchPath::Schemas(schemas) => Some(schemas),
        SearchPath::Default => None,
    }
}

/// Parses the text form of `search_path`: names separated by commas, in double quotes where needed.
pub(crate) fn parse_path(text: &str) -> Option<SearchPath> {
    let mut schemas = Vec::new();
    // Others, as a space that does not break, are part of a name to the server, or to some versions of it.
    let space = [' ', '\t', '\n', '\r', '\x0c'];
    let mut rest = text.trim_matches(space);
    if rest.is_empty() {
        return Some(SearchPath::Schemas(schemas));
    }
    loop {
        let (name, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut characters = quoted.char_indices().peekable();
            let end = loop {
                match characters.next()? {
                    (_, '"') if characters.peek().is_some_and(|(_, next)| *next == '"') => {
                        characters.next();
                        name.push('"');
                    }
                    (at, '"') => break at,
                    (_, other) => name.push(other),
                }
            };
            (name, quoted.get(end + 1..)?)
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (name, after) = rest.split_at_checked(end)?;
            let name = name.trim_matches(space);
            if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '"') {
                return None;
            }
            // The server lowers the letters beyond ASCII by the encoding and locale of the database, if at all.
            if name.chars().any(|c| !c.is_ascii() && c.is_uppercase()) {
                return None;
            }
            (name.to_ascii_lowercase(), after)
        };
        schemas.push(truncate(&name).to_owned());
        rest = after.trim_start_matches(space);
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start_matches(space),
            None if rest.is_empty() => return Some(SearchPath::Schemas(schemas)),
            None => return None,
        }
    }
}

/// Identifiers are cut to 63 bytes, at a character's boundary.
pub(crate) fn truncate(name: &str) -> &str {
    if name.len() <= 63 {
        return name;
    }
    let end = (0..=63).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    name.get(..end).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_paths_parse_as_the_server_reads_them() {
        let schemas = |names: &[&str]| Some(SearchPath::Schemas(names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(parse_path("\"$user\", public"), schemas(&["$user", "public"]));
        assert_eq!(parse_path(""), schemas(&[]));
        assert_eq!(parse_path("Public"), schemas(&["public"]));
        assert_eq!(parse_path("\"A\"\"b\",c"), schemas(&["A\"b", "c"]));
        assert_eq!(parse_path("a b"), None);
        assert_eq!(parse_path("\"a"), None);
        assert_eq!(parse_path("a,"), None);
        assert_eq!(parse_path("kärnten"), schemas(&["kärnten"]));
        assert_eq!(parse_path("\"KÄRNTEN\""), schemas(&["KÄRNTEN"]));
        assert_eq!(parse_path("KÄRNTEN"), None);
        assert_eq!(parse_path(" a ,\tb\n"), schemas(&["a", "b"]));
        assert_eq!(parse_path("a\u{a0}"), None);
        assert_eq!(parse_path("\u{a0}"), None);
    }
}
