//! The JSON Schema of an experiment file, for editors.

use serde_json::{Value, json};

use super::Spec;

/// The schema as JSON. A file that includes a base need not repeat its keys.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Spec).to_value();
    let base = json!({
        "type": "string",
        "description": "Another experiment file, beside this one; its keys hold where this file does not give them.",
    });
    if let Some(root) = schema.as_object_mut() {
        root["properties"]["include"] = base;
        let required = root.remove("required").unwrap_or_else(|| json!([]));
        root.insert("if".into(), json!({ "not": { "required": ["include"] } }));
        root.insert("then".into(), json!({ "required": required }));
    }
    schema
}
