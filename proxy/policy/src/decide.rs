//! From facts to a verdict: the first rule that matches decides for a statement, the strictest statement for a text.

use std::time::Duration;

use crate::analysis::{self, Analysis};
use crate::decision::{Effect, Lasts, Trace, Trial};
use crate::facts::{RelationName, SessionAction};
use crate::grammar::{self, Refusal};
use crate::masks::Protection;
use crate::pattern::NamePattern;
use crate::rule::{Action, Hold, OnHold, Rule};
use crate::{Denial, HoldTerms, JudgeRequest, Judgement, StatementFacts, StatementKind, Verdict, second};

mod time;
mod unmask;

/// Statements of a text from which on no second opinion is asked.
const MOST_OPINIONS: usize = 32;

pub(crate) fn text(sql: &str, request: &JudgeRequest<'_>) -> Judgement {
    let settings = request.policy.settings();
    let protection = Protection::new(request.policy, request.principal, request.catalog);
    let analyses = match grammar::parse(sql, settings.max_statement_bytes) {
        Ok(statements) if statements.len() > settings.max_statements => {
            vec![unknown("the text has more statements than are judged".to_owned(), protection.any())]
        }
        Ok(statements) => {
            let mut analyses = analyse(sql, &statements, request, &protection);
            if let [only] = analyses.as_mut_slice() {
                only.unmask = unmask::is_asked(sql, only, &protection);
            }
            analyses
        }
        Err(Refusal::TooManyComments) => {
            vec![unknown(
                "it has more comments or signs in a row, without a blank between them, than are read".to_owned(),
                protection.any(),
            )]
        }
        Err(Refusal::TooManyCopies) => {
            vec![unknown(
                "it assigns to more columns at once, or with more assignments inside each other, than are read".to_owned(),
                protection.any(),
            )]
        }
        Err(Refusal::TooLarge) => vec![unknown("the text is longer than is judged".to_owned(), protection.any())],
        Err(Refusal::Syntax(message)) => {
            let note = format!("PostgreSQL's grammar does not accept it: {message}");
            return syntax_error(message, conclude(vec![unknown(note, protection.any())], request));
        }
    };
    conclude(analyses, request)
}

/// What the grammar does not accept asks nobody for approval and is told to the client as the server would. Only a rule that allows
/// what is not understood lets it pass.
fn syntax_error(message: String, judgement: Judgement) -> Judgement {
    if judgement.verdict == Verdict::Allow {
        return judgement;
    }
    let denial = Denial { code: "42601".to_owned(), message, detail: None, hint: None };
    Judgement { verdict: Verdict::Deny(denial), rule: "countersign:syntax".to_owned(), ..judgement }
}

fn analyse(
    sql: &str,
    statements: &[pg_query::protobuf::RawStmt],
    request: &JudgeRequest<'_>,
    protection: &Protection<'_>,
) -> Vec<Analysis> {
    let mut own_state = None;
    let controls = |node: &Option<Box<pg_query::Node>>| {
        node.as_ref().is_some_and(|node| matches!(node.node, Some(pg_query::NodeEnum::TransactionStmt(_))))
    };
    let settles = !statements.iter().any(|statement| controls(&statement.stmt));
    let mut analyses = Vec::with_capacity(statements.len());
    for (index, statement) in statements.iter().enumerate() {
        let state = own_state.as_ref().unwrap_or(request.state);
        let Some(node) = statement.stmt.as_deref() else { continue };
        let mut analysis = analysis::statement(node, request.catalog, state, protection, request.parameter_types, sql.len());
        write(&mut analysis.effects, sql, statement);
        if !analysis.effects.is_empty() && index + 1 < statements.len() {
            let state = own_state.get_or_insert_with(|| request.state.clone());
            for effect in &analysis.effects {
                state.apply(effect);
            }
            if settles {
                settle(state, &analysis.effects);
            }
            if analysis.effects.iter().any(|effect| matches!(effect, Effect::SettingsUnseen)) {
                // Nobody can ask in the middle of a text.
                state.apply(&Effect::SearchPath { path: None, lasts: Lasts::Perhaps });
                state.lose_names();
            }
        }
        analyses.push(analysis);
    }
    if statements.len() > 1
        && !settles
        && let Some(ran) =
            analyses.iter_mut().find(|analysis| analysis.effects.iter().any(|effect| matches!(effect, Effect::SettingsUnseen)))
    {
        // What one statement set another may take back in part, and who asks afterwards is told only of what is left.
        ran.effects.push(Effect::SearchPath { path: None, lasts: Lasts::Perhaps });
    }
    if analyses.is_empty() {
        analyses.push(empty());
    }
    if analyses.len() <= MOST_OPINIONS
        && analyses.iter().any(|analysis| analysis.facts.kind <= StatementKind::CopyOut)
        && let Some(kinds) = second::opinion(sql)
        && kinds.len() == analyses.len()
    {
        for (analysis, kind) in analyses.iter_mut().zip(kinds) {
            // EXPLAIN and PREPARE are judged by their inside; the second opinion only ever raises a plain read.
            if kind > analysis.facts.kind && analysis.facts.kind == StatementKind::Read {
                analysis.facts.kind = kind;
                analysis.facts.notes.push(format!("the second parser sees {kind:?} in what the first takes for a read"));
            }
        }
    }
    analyses
}

/// Gives what is prepared or declared the text it was written with.
fn write(effects: &mut [Effect], sql: &str, statement: &pg_query::protobuf::RawStmt) {
    for effect in effects {
        if let Effect::Prepare(_, written) | Effect::Declare(_, written) = effect {
            let begin = usize::try_from(statement.stmt_location).unwrap_or(0);
            let end = usize::try_from(statement.stmt_len)
                .ok()
                .filter(|length| *length > 0)
                .map_or(sql.len(), |length| begin.saturating_add(length));
            // Where the places do not fit, the whole text is shown.
            written.text = sql.get(begin..end).unwrap_or(sql).trim().into();
        }
    }
}

/// Within one text a statement runs only after the ones before it worked, so the effects of SET are certain. Those of `set_config` are
/// not (its row may not exist), and the caller does not settle texts with transaction control (ROLLBACK takes a SET back).
fn settle(state: &mut crate::SessionState, effects: &[Effect]) {
    for effect in effects {
        if let Effect::SearchPath { path: Some(path), lasts: Lasts::Session | Lasts::Transaction } = effect
            && !state.path_unknown
        {
            state.paths = vec![state.own_path(path)];
        }
    }
}

fn facts(kind: StatementKind, notes: Vec<String>) -> StatementFacts {
    StatementFacts {
        kind,
        reads: Vec::new(),
        writes: Vec::new(),
        functions: Vec::new(),
        missing_where: false,
        limit: None,
        notes,
        executes: Vec::new(),
        action: SessionAction::None,
    }
}

fn bare(facts: StatementFacts, protected: bool) -> Analysis {
    Analysis {
        facts,
        named: Vec::new(),
        outputs: None,
        effects: Vec::new(),
        stale: false,
        protected,
        exposed: None,
        copy_refused: None,
        copies: Vec::new(),
        shows: Vec::new(),
        unmask: false,
        by_literal: false,
        unpins: None,
    }
}

fn unknown(note: String, masked: bool) -> Analysis {
    bare(facts(StatementKind::Unknown, vec![note]), masked)
}

fn empty() -> Analysis {
    bare(facts(StatementKind::Empty, Vec::new()), false)
}

fn conclude(analyses: Vec<Analysis>, request: &JudgeRequest<'_>) -> Judgement {
    let mut verdict = Verdict::Allow;
    let mut rule = "default".to_owned();
    let mut first = true;
    let mut valid_until: Option<u64> = None;
    let mut trace = Trace::default();
    let (mut touches, mut durable, mut stale) = (false, false, false);
    let mut statements = Vec::with_capacity(analyses.len());
    for (index, analysis) in analyses.into_iter().enumerate() {
        let (own, own_rule, until) = statement(index, &analysis, request, &mut trace.trials);
        valid_until = match (valid_until, until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let (stricter, replaced) = strictest(verdict, own, first);
        verdict = stricter;
        if replaced {
            rule = own_rule;
        }
        first = false;
        touches |= analysis.protected;
        stale |= analysis.stale;
        durable |= needs_durable_record(&analysis.facts);
        trace.effects.extend(analysis.effects);
        trace.outputs.push(analysis.outputs);
        trace.copies.extend(analysis.copies);
        trace.unmask |= analysis.unmask;
        trace.by_literal |= analysis.by_literal;
        statements.push(analysis.facts);
    }
    Judgement {
        verdict,
        rule,
        policy: request.policy.digest(),
        statements,
        touches_protected: touches,
        needs_durable_record: durable,
        stale_catalog: stale,
        valid_until,
        trace,
    }
}

fn needs_durable_record(facts: &StatementFacts) -> bool {
    match facts.kind {
        StatementKind::Empty | StatementKind::Read => false,
        StatementKind::Transaction => facts.action == SessionAction::Commit,
        _ => true,
    }
}

/// The stricter of two verdicts, and whether it is the second.
fn strictest(known: Verdict, new: Verdict, first: bool) -> (Verdict, bool) {
    match (known, new) {
        (known @ Verdict::Deny(_), _) => (known, false),
        (_, new @ Verdict::Deny(_)) => (new, true),
        (Verdict::Hold(a), Verdict::Hold(b)) => {
            if a.reviewers == b.reviewers {
                let replaced = b.quorum > a.quorum;
                let reason = if a.reason == b.reason || b.reason.is_empty() { a.reason } else { format!("{}; {}", a.reason, b.reason) };
                (
                    Verdict::Hold(HoldTerms {
                        reason,
                        reviewers: a.reviewers,
                        sources: a.sources,
                        quorum: a.quorum.max(b.quorum),
                        expiry: a.expiry.min(b.expiry),
                        on_hold: if a.on_hold == b.on_hold { a.on_hold } else { OnHold::Return },
                        runs: a.runs.min(b.runs),
                        step_up: a.step_up || b.step_up,
                        estimate: a.estimate || b.estimate,
                        break_glass: if a.break_glass == b.break_glass { a.break_glass } else { None },
                    }),
                    replaced,
                )
            } else {
                let message = "the statements of this text need different reviewers".to_owned();
                let hint = Some("send them one by one".to_owned());
                (Verdict::Deny(Denial { code: "42501".to_owned(), message, detail: None, hint }), true)
            }
        }
        (known @ Verdict::Hold(_), Verdict::Allow) => (known, false),
        (Verdict::Allow, new @ Verdict::Hold(_)) => (new, true),
        (Verdict::Allow, Verdict::Allow) => (Verdict::Allow, first),
    }
}

fn statement(index: usize, analysis: &Analysis, request: &JudgeRequest<'_>, trials: &mut Vec<Trial>) -> (Verdict, String, Option<u64>) {
    if analysis.facts.kind == StatementKind::Empty {
        return (Verdict::Allow, "empty".to_owned(), None);
    }
    let mut until: Option<u64> = None;
    let mut decided = None;
    for rule in request.policy.rules() {
        let outcome = matches(rule, analysis, request, &mut until);
        let why = outcome.err();
        let matched = why.is_none();
        trials.push(Trial {
            statement: index,
            rule: rule.name.clone(),
            matched,
            why: why.unwrap_or_else(|| "every condition holds".to_owned()),
        });
        if matched {
            decided = Some(rule);
            break;
        }
    }
    let (verdict, name) = match decided {
        Some(rule) => (verdict(&rule.action, &rule.name, analysis), rule.name.clone()),
        None => (Verdict::Deny(denial("default", None, analysis)), "default".to_owned()),
    };
    let (verdict, name) = masking(verdict, name, analysis, request);
    (verdict, name, until)
}

/// What masks cannot cover.
fn masking(verdict: Verdict, name: String, analysis: &Analysis, request: &JudgeRequest<'_>) -> (Verdict, String) {
    if let Some(setting) = analysis.unpins
        && !matches!(verdict, Verdict::Deny(_))
    {
        let value = if setting == "client_encoding" { "UTF8" } else { "on" };
        let message = format!("{setting} can only be {value} here: statements are judged under it");
        let denial = Denial { code: "0A000".to_owned(), message, detail: None, hint: None };
        return (Verdict::Deny(denial), "countersign:pinned".to_owned());
    }
    if let Some(why) = &analysis.copy_refused
        && !matches!(verdict, Verdict::Deny(_))
    {
        let denial = Denial {
            code: "42501".to_owned(),
            message: "COPY is refused by policy: its data cannot be masked safely".to_owned(),
            detail: Some(why.clone()),
            hint: Some("name the columns without the protected ones, or use SELECT, whose rows are masked".to_owned()),
        };
        return (Verdict::Deny(denial), "countersign:masking".to_owned());
    }
    if analysis.unmask
        && let Some(unmask) = &request.policy.masking().unmask
    {
        // Whoever grants the values themselves grants what conditions on them would tell.
        let (verdict, replaced) = strictest(verdict, Verdict::Hold(terms(&unmask.hold, &unmask::reason(analysis))), false);
        return (verdict, if replaced { unmask::RULE.to_owned() } else { name });
    }
    let Some(how) = &analysis.exposed else { return (verdict, name) };
    let own = match &request.policy.masking().predicates {
        Action::Allow => return (verdict, name),
        Action::Deny(_) => Verdict::Deny(Denial {
            code: "42501".to_owned(),
            message: "refused by policy: a protected column is used where masking cannot cover it".to_owned(),
            detail: Some(how.clone()),
            hint: Some("select the column as it stands, or ask for a rule under [masking]".to_owned()),
        }),
        Action::Hold(hold) => Verdict::Hold(terms(hold, how)),
    };
    let (verdict, replaced) = strictest(verdict, own, false);
    (verdict, if replaced { "countersign:masking".to_owned() } else { name })
}

fn verdict(action: &Action, rule: &str, analysis: &Analysis) -> Verdict {
    match action {
        Action::Allow => Verdict::Allow,
        Action::Deny(message) => Verdict::Deny(denial(rule, message.as_deref(), analysis)),
        Action::Hold(hold) => {
            let why = analysis.facts.notes.first().map_or("", String::as_str);
            Verdict::Hold(terms(hold, why))
        }
    }
}

fn terms(hold: &Hold, why: &str) -> HoldTerms {
    let reason = if hold.reason.is_empty() { why.to_owned() } else { hold.reason.clone() };
    HoldTerms {
        reason,
        reviewers: hold.reviewers.clone(),
        sources: hold.sources.clone(),
        quorum: hold.quorum,
        expiry: if hold.expiry.is_zero() { Duration::from_secs(60) } else { hold.expiry },
        on_hold: hold.on_hold,
        runs: hold.runs.max(1),
        step_up: hold.step_up,
        estimate: hold.estimate,
        break_glass: hold.break_glass.as_ref().map(|break_glass| break_glass.terms.clone()),
    }
}

fn denial(rule: &str, message: Option<&str>, analysis: &Analysis) -> Denial {
    let kind = analysis.facts.kind.name();
    let default = if rule == "default" {
        format!("refused by policy: no rule allows this {kind} statement")
    } else {
        format!("refused by policy: rule {rule}")
    };
    let detail = (!analysis.facts.notes.is_empty()).then(|| analysis.facts.notes.join("; "));
    Denial { code: "42501".to_owned(), message: message.map_or(default, str::to_owned), detail, hint: None }
}

fn matches(rule: &Rule, analysis: &Analysis, request: &JudgeRequest<'_>, until: &mut Option<u64>) -> Result<(), String> {
    if !rule.who.matches(request.principal) {
        return Err("not about this principal".to_owned());
    }
    if !rule.databases.is_empty() && !rule.databases.iter().any(|pattern| pattern.matches(request.database)) {
        return Err("not about this database".to_owned());
    }
    if let Some(when) = &rule.when {
        let (holds, changes) = time::holds(when, request.now);
        *until = Some(until.map_or(changes, |known| known.min(changes)));
        if !holds {
            return Err("not at this time".to_owned());
        }
    }
    let facts = &analysis.facts;
    if !rule.what.kinds.is_empty() && !rule.what.kinds.contains(&facts.kind) {
        return Err(format!("not about {} statements", facts.kind.name()));
    }
    let allows = rule.action == Action::Allow;
    relations(rule, allows, analysis)?;
    functions(rule, allows, facts)?;
    if rule.what.missing_where.is_some_and(|wanted| wanted != facts.missing_where) {
        return Err(if facts.missing_where { "it has no WHERE" } else { "nothing lacks a WHERE" }.to_owned());
    }
    if let Some(most) = rule.what.rows_above
        && facts.limit.is_some_and(|limit| limit <= most)
    {
        return Err(format!("it has a LIMIT of at most {most}"));
    }
    Ok(())
}

fn relations(rule: &Rule, allows: bool, analysis: &Analysis) -> Result<(), String> {
    let patterns: &[NamePattern] = &rule.what.relations;
    if patterns.is_empty() {
        return Ok(());
    }
    let listed = |relation: &RelationName| patterns.iter().any(|pattern| pattern.matches(&relation.schema, &relation.name));
    if allows {
        return match analysis.named.iter().find(|relation| !listed(relation)) {
            Some(relation) => Err(format!("it touches {relation}, which the rule does not list")),
            None => Ok(()),
        };
    }
    if analysis.facts.reads.iter().chain(&analysis.facts.writes).chain(&analysis.named).any(listed) {
        Ok(())
    } else {
        Err("it touches none of the relations listed".to_owned())
    }
}

fn functions(rule: &Rule, allows: bool, facts: &StatementFacts) -> Result<(), String> {
    let patterns: &[NamePattern] = &rule.what.functions;
    if patterns.is_empty() {
        return Ok(());
    }
    let listed = |function: &String| {
        let (schema, name) = function.split_once('.').unwrap_or(("", function));
        patterns.iter().any(|pattern| pattern.matches(schema, name))
    };
    if allows {
        return match facts.functions.iter().find(|function| !listed(function)) {
            Some(function) => Err(format!("it calls {function}, which the rule does not list")),
            None if facts.functions.is_empty() => Err("it calls none of the functions listed".to_owned()),
            None => Ok(()),
        };
    }
    if facts.functions.iter().any(listed) { Ok(()) } else { Err("it calls none of the functions listed".to_owned()) }
}
