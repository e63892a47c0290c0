//! JSON values as YAML.
//!
//! Plain scalars are used only where no reader of YAML 1.1 or 1.2 could take them for something else; every other string
//! is double-quoted, where YAML has the escapes of JSON.

use serde_json::{Map, Value};

use crate::page::clean_json;

/// Words that some reader takes for a boolean or for nothing.
const RESERVED: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// One document, ending in a line break.
pub(crate) fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut text, map, 0),
        Value::Array(items) if !items.is_empty() => sequence(&mut text, items, 0),
        other => text.push_str(&format!("{}\n", scalar(other))),
    }
    text
}

fn mapping(text: &mut String, map: &Map<String, Value>, indent: usize) {
    for (index, (key, value)) in map.iter().enumerate() {
        // The first key of a mapping in a sequence stands behind the dash.
        if index > 0 || !text.ends_with("- ") {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str(&string(key));
        text.push(':');
        nested(text, value, indent);
    }
}

fn sequence(text: &mut String, items: &[Value], indent: usize) {
    for item in items {
        text.push_str(&" ".repeat(indent));
        match item {
            Value::Object(map) if !map.is_empty() => {
                text.push_str("- ");
                mapping(text, map, indent + 2);
            }
            Value::Array(inner) if !inner.is_empty() => {
                text.push_str("-\n");
                sequence(text, inner, indent + 2);
            }
            other => text.push_str(&format!("- {}\n", scalar(other))),
        }
    }
}

fn nested(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            mapping(text, map, indent + 2);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            sequence(text, items, indent + 2);
        }
        other => text.push_str(&format!(" {}\n", scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
        other => other.to_string(),
    }
}

fn string(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'))
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { clean_json(&Value::String(text.to_owned()).to_string()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_nest_and_ambiguous_strings_are_quoted() {
        let value = json!({
            "a": [], "b": {}, "c": [{ "x": 1, "y": [true, null] }, [1.5, [2]], "no"],
            "d": { "Yes": "1.2.3", "e f": "a: b # c", "g": "line\nbreak\u{9b}", "h": "gp1x/web-tools", "i": "" }
        });
        assert_eq!(
            document(&value),
            concat!(
                "a: []\nb: {}\nc:\n  - x: 1\n    \"y\":\n      - true\n      - null\n  -\n    - 1.5\n    -\n      - 2\n",
                "  - \"no\"\nd:\n  \"Yes\": \"1.2.3\"\n  \"e f\": \"a: b # c\"\n  g: \"line\\nbreak\\u009b\"\n",
                "  h: gp1x/web-tools\n  i: \"\"\n"
            )
        );
    }
}
