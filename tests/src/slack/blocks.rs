//! Block Kit's limits, as Slack enforces them, and what can be read off a message's blocks.
//!
//! <https://docs.slack.dev/reference/block-kit/blocks>, <https://docs.slack.dev/reference/block-kit/block-elements>

use serde_json::Value;

use super::Button;

/// Where blocks stand; a modal takes more of them than a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    /// `chat.*`
    Message,
    /// `views.*`
    Modal,
}

/// Everything Slack would refuse about these blocks; empty when it would take them.
pub(super) fn problems(blocks: &[Value], surface: Surface) -> Vec<String> {
    let mut found = Found(Vec::new());
    let most = if surface == Surface::Modal { 100 } else { 50 };
    if blocks.len() > most {
        found.say("/blocks", &format!("no more than {most} items allowed"));
    }
    let mut ids = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let at = format!("/blocks/{index}");
        if let Some(id) = text_of(block, "block_id") {
            found.length(&at, "block_id", id, 255);
            if ids.contains(&id) {
                found.say(&at, "block_id already exists");
            }
            ids.push(id);
        }
        check_block(block, &at, &mut found);
    }
    found.0
}

struct Found(Vec<String>);

impl Found {
    fn say(&mut self, at: &str, what: &str) {
        self.0.push(format!("[ERROR] {what} [json-pointer:{at}]"));
    }

    fn length(&mut self, at: &str, field: &str, text: &str, most: usize) {
        if text.encode_utf16().count() > most {
            self.say(&format!("{at}/{field}"), &format!("must be less than {} characters", most + 1));
        }
    }

    /// A text object: `{"type": "plain_text" | "mrkdwn", "text": …}` of 1 to `most` characters.
    fn text_object(&mut self, at: &str, object: Option<&Value>, most: usize, plain_only: bool) {
        let Some(object) = object else {
            self.say(at, "missing required field");
            return;
        };
        match text_of(object, "type") {
            Some("plain_text") => {}
            Some("mrkdwn") if !plain_only => {}
            _ => self.say(&format!("{at}/type"), "unsupported type of text object"),
        }
        match text_of(object, "text") {
            None => self.say(at, "missing required field: text"),
            Some("") => self.say(&format!("{at}/text"), "must be more than 0 characters"),
            Some(text) => self.length(at, "text", text, most),
        }
    }
}

fn check_block(block: &Value, at: &str, found: &mut Found) {
    match text_of(block, "type") {
        Some("section") => {
            let fields = list(block, "fields");
            if block.get("text").is_some() || fields.is_empty() {
                found.text_object(&format!("{at}/text"), block.get("text"), 3000, false);
            }
            if fields.len() > 10 {
                found.say(&format!("{at}/fields"), "no more than 10 items allowed");
            }
            for (index, field) in fields.iter().enumerate() {
                found.text_object(&format!("{at}/fields/{index}"), Some(field), 2000, false);
            }
            if let Some(accessory) = block.get("accessory") {
                check_element(accessory, &format!("{at}/accessory"), found);
            }
        }
        Some("header") => found.text_object(&format!("{at}/text"), block.get("text"), 150, true),
        Some("divider") => {}
        Some("context") => {
            let elements = list(block, "elements");
            if elements.is_empty() || elements.len() > 10 {
                found.say(&format!("{at}/elements"), "1 to 10 items allowed");
            }
            for (index, element) in elements.iter().enumerate() {
                if text_of(element, "type") != Some("image") {
                    found.text_object(&format!("{at}/elements/{index}"), Some(element), 3000, false);
                }
            }
        }
        Some("actions") => {
            let elements = list(block, "elements");
            if elements.is_empty() || elements.len() > 25 {
                found.say(&format!("{at}/elements"), "1 to 25 items allowed");
            }
            for (index, element) in elements.iter().enumerate() {
                check_element(element, &format!("{at}/elements/{index}"), found);
            }
        }
        Some("input") => {
            found.text_object(&format!("{at}/label"), block.get("label"), 2000, true);
            match block.get("element") {
                Some(element) => check_element(element, &format!("{at}/element"), found),
                None => found.say(at, "missing required field: element"),
            }
        }
        Some("rich_text") => {
            if list(block, "elements").is_empty() {
                found.say(at, "missing required field: elements");
            }
        }
        Some("image") => {
            if text_of(block, "alt_text").is_none() {
                found.say(at, "missing required field: alt_text");
            }
        }
        Some("markdown") => found.length(at, "text", text_of(block, "text").unwrap_or_default(), 12_000),
        other => found.say(&format!("{at}/type"), &format!("unsupported block: {}", other.unwrap_or("none"))),
    }
}

fn check_element(element: &Value, at: &str, found: &mut Found) {
    if let Some(id) = text_of(element, "action_id") {
        found.length(at, "action_id", id, 255);
    }
    match text_of(element, "type") {
        Some("button") => {
            found.text_object(&format!("{at}/text"), element.get("text"), 75, true);
            found.length(at, "value", text_of(element, "value").unwrap_or_default(), 2000);
            found.length(at, "url", text_of(element, "url").unwrap_or_default(), 3000);
            if let Some(style) = text_of(element, "style")
                && !matches!(style, "primary" | "danger")
            {
                found.say(&format!("{at}/style"), "must be primary or danger");
            }
            if let Some(confirm) = element.get("confirm") {
                found.text_object(&format!("{at}/confirm/title"), confirm.get("title"), 100, true);
                found.text_object(&format!("{at}/confirm/text"), confirm.get("text"), 300, false);
                found.text_object(&format!("{at}/confirm/confirm"), confirm.get("confirm"), 30, true);
                found.text_object(&format!("{at}/confirm/deny"), confirm.get("deny"), 30, true);
            }
        }
        Some("plain_text_input") => {
            if element.get("placeholder").is_some() {
                found.text_object(&format!("{at}/placeholder"), element.get("placeholder"), 150, true);
            }
            if element.get("max_length").and_then(Value::as_u64).is_some_and(|most| most > 3000) {
                found.say(&format!("{at}/max_length"), "must be at most 3000");
            }
        }
        Some("static_select" | "overflow" | "checkboxes" | "radio_buttons" | "datepicker" | "image" | "users_select" | "number_input") => {}
        other => found.say(&format!("{at}/type"), &format!("unsupported element: {}", other.unwrap_or("none"))),
    }
}

/// What Slack would refuse about a modal.
pub(super) fn view_problems(view: &Value) -> Vec<String> {
    let mut found = Found(problems(&list(view, "blocks"), Surface::Modal));
    if text_of(view, "type") != Some("modal") {
        found.say("/type", "unsupported view");
    }
    found.text_object("/title", view.get("title"), 24, true);
    for part in ["submit", "close"] {
        if view.get(part).is_some() {
            found.text_object(&format!("/{part}"), view.get(part), 24, true);
        }
    }
    let inputs = list(view, "blocks").iter().any(|block| text_of(block, "type") == Some("input"));
    if inputs && view.get("submit").is_none() {
        found.say("/submit", "must be provided when there is an input block");
    }
    found.length("", "private_metadata", text_of(view, "private_metadata").unwrap_or_default(), 3000);
    found.length("", "callback_id", text_of(view, "callback_id").unwrap_or_default(), 255);
    found.0
}

/// Gives every block and action without an id one, as Slack does.
pub(super) fn fill_ids(blocks: &mut [Value], serial: u64) {
    for (index, block) in blocks.iter_mut().enumerate() {
        let Some(block) = block.as_object_mut() else { continue };
        block.entry("block_id").or_insert_with(|| Value::String(format!("b{serial}_{index}")));
        if let Some(Value::Array(elements)) = block.get_mut("elements") {
            for (place, element) in elements.iter_mut().enumerate() {
                if let Some(element) = element.as_object_mut()
                    && element.get("type").and_then(Value::as_str) == Some("button")
                {
                    element.entry("action_id").or_insert_with(|| Value::String(format!("a{serial}_{index}_{place}")));
                }
            }
        }
    }
}

/// The buttons of a message.
pub(super) fn buttons(blocks: &[Value]) -> Vec<Button> {
    let mut found = Vec::new();
    for block in blocks {
        let block_id = text_of(block, "block_id").unwrap_or_default();
        for element in list(block, "elements").iter().chain(block.get("accessory")) {
            if text_of(element, "type") != Some("button") {
                continue;
            }
            let action_id = text_of(element, "action_id").unwrap_or_default();
            let style = text_of(element, "style");
            let named = action_id.to_ascii_lowercase();
            let action = if named.ends_with("-runs") {
                Some(action_id)
            } else if named.contains("approve") {
                Some("approve")
            } else if named.contains("deny") || named.contains("reject") {
                Some("deny")
            } else {
                match style {
                    Some("primary") => Some("approve"),
                    Some("danger") => Some("deny"),
                    _ => Some(action_id).filter(|id| !id.is_empty()),
                }
            };
            found.push(Button {
                action_id: action_id.to_owned(),
                block_id: block_id.to_owned(),
                text: element.get("text").and_then(|text| text_of(text, "text")).unwrap_or_default().to_owned(),
                value: text_of(element, "value").unwrap_or_default().to_owned(),
                style: style.map(ToOwned::to_owned),
                action: action.map(ToOwned::to_owned),
            });
        }
    }
    found
}

/// All text of a message, one line a text object.
pub(super) fn plain(value: &Value) -> String {
    let mut out = String::new();
    collect(value, &mut out);
    out
}

fn collect(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, out)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "text" => {
                        out.push_str(text);
                        out.push('\n');
                    }
                    Value::String(_) => {}
                    other => collect(other, out),
                }
            }
        }
        _ => {}
    }
}

/// The first UUID in a text.
pub(super) fn first_uuid(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find_map(|start| {
        let piece = text.get(start..start.checked_add(36)?)?;
        (piece.as_bytes().get(8) == Some(&b'-')).then_some(())?;
        uuid::Uuid::try_parse(piece).ok().map(|_| piece.to_owned())
    })
}

pub(super) fn text_of<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

pub(super) fn list(value: &Value, name: &str) -> Vec<Value> {
    value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn section(length: usize) -> Value {
        json!({"type": "section", "text": {"type": "mrkdwn", "text": "x".repeat(length)}})
    }

    #[test]
    fn slack_refuses() {
        let button = |value: usize, text: &str| json!({"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": text}, "value": "v".repeat(value)}]});
        let cases: [(&str, Vec<Value>, bool); 11] = [
            ("3,000 characters", vec![section(3000)], true),
            ("3,001 characters", vec![section(3001)], false),
            ("empty text", vec![section(0)], false),
            ("50 blocks", vec![section(1); 50], true),
            ("51 blocks", vec![section(1); 51], false),
            ("value of 2,000", vec![button(2000, "Approve")], true),
            ("value of 2,001", vec![button(2001, "Approve")], false),
            ("button text of 76", vec![button(1, &"x".repeat(76))], false),
            ("header of 151", vec![json!({"type": "header", "text": {"type": "plain_text", "text": "x".repeat(151)}})], false),
            ("unknown block", vec![json!({"type": "carousel"})], false),
            ("same block id twice", vec![json!({"type": "divider", "block_id": "a"}), json!({"type": "divider", "block_id": "a"})], false),
        ];
        for (name, blocks, taken) in cases {
            let found = problems(&blocks, Surface::Message);
            assert_eq!(found.is_empty(), taken, "{name}: {found:?}");
        }
    }

    #[test]
    fn slack_refuses_views() {
        let view = |title: &str| json!({"type": "modal", "title": {"type": "plain_text", "text": title}, "blocks": [section(3)]});
        assert!(view_problems(&view("Deny")).is_empty());
        assert!(!view_problems(&view("a title of more than twenty-four")).is_empty());
        let input = json!({"type": "modal", "title": {"type": "plain_text", "text": "Deny"}, "blocks": [
            {"type": "input", "label": {"type": "plain_text", "text": "Why"}, "element": {"type": "plain_text_input", "action_id": "r"}}]});
        assert!(view_problems(&input).iter().any(|problem| problem.contains("/submit")));
    }

    #[test]
    fn uuids_are_found() {
        let id = "0199f3a0-7c1e-7aaa-8bbb-0123456789ab";
        assert_eq!(first_uuid(&format!("held: {id}, please")), Some(id.to_owned()));
        assert_eq!(first_uuid("ünïcode und kein Bezug, dafür recht lang und ohne eine einzige Kennung"), None);
    }
}
