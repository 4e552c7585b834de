//! The JSON Schema of an experiment file, for editors.

use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::Spec;
use super::rules::KindRules;

/// Returns the schema of specs of the given kinds. A file that includes a base need not repeat
/// its keys.
pub fn schema(kinds: &[KindRules]) -> Value {
    let mut generator = SchemaGenerator::default();
    let with_section = kinds.iter().filter(|kind| kind.has_section());
    let sections: Vec<(&KindRules, Value)> =
        with_section.map(|kind| (kind, (kind.schema)(&mut generator).to_value())).collect();
    let mut schema = generator.into_root_schema_for::<Spec>().to_value();
    let base = json!({
        "oneOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ],
        "description": "Another experiment file, relative to this one, or several; their keys hold where this file does not give them, those of a later file before those of an earlier one. An included file may include others.",
    });
    if let Some(root) = schema.as_object_mut() {
        root["properties"]["include"] = base;
        let kinds =
            kinds.iter().map(|kind| json!({ "const": kind.name, "description": kind.purpose }));
        root["properties"]["kind"]["oneOf"] = kinds.collect();
        for (kind, section) in sections {
            root["properties"][kind.name] = section;
        }
        let required = root.remove("required").unwrap_or_else(|| json!([]));
        root.insert("if".into(), json!({ "not": { "required": ["include"] } }));
        root.insert("then".into(), json!({ "required": required }));
    }
    schema
}
