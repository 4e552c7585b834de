//! Checks numbers against the ranges in the schema, where each range is declared with its field.

use schemars::Schema;
use serde_json::Value as Json;
use serde_yaml::Value;

use super::finding::{Finding, finding};

/// Checks every number of a value against the range that its schema gives, and that it is
/// finite.
///
/// # Errors
/// Returns the key path of the first number outside its range, the problem and the remedy.
pub fn check(schema: &Schema, value: &Value) -> Result<(), Finding> {
    let root = schema.as_value();
    RangeWalk { root }.visit(root, value, "")
}

/// A walk through a value and its schema.
struct RangeWalk<'a> {
    /// The whole schema, which references start at.
    root: &'a Json,
}

impl<'a> RangeWalk<'a> {
    fn visit(&self, schema: &'a Json, value: &Value, path: &str) -> Result<(), Finding> {
        let schema = self.resolved(schema);
        match value {
            Value::Mapping(mapping) => mapping.iter().try_for_each(|(key, value)| {
                let key = key.as_str().unwrap_or_default();
                let of = &schema["properties"][key];
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                self.visit(of, value, &path)
            }),
            Value::Sequence(items) => {
                check_length(schema, items.len(), path)?;
                let remedy = &schema["x-remedy"];
                items.iter().enumerate().try_for_each(|(i, item)| {
                    let visited = self.visit(&schema["items"], item, &format!("{path}[{i}]"));
                    // Items of a list use the remedy of the list.
                    visited.map_err(|(key, problem, own)| {
                        (key, problem, remedy.as_str().map_or(own, str::to_owned))
                    })
                })
            }
            Value::Number(_) => check_number(schema, value.as_f64().unwrap_or(f64::NAN), path),
            _ => Ok(()),
        }
    }

    /// Returns the schema that a reference or an optional field stands for.
    fn resolved(&self, schema: &'a Json) -> &'a Json {
        let target = |reference: &str| self.root.pointer(reference.strip_prefix('#')?);
        if let Some(schema) = schema["$ref"].as_str().and_then(target) {
            return self.resolved(schema);
        }
        let present = |options: &'a Vec<Json>| options.iter().find(|o| o["type"] != "null");
        match schema["anyOf"].as_array().and_then(present) {
            Some(option) => self.resolved(option),
            None => schema,
        }
    }
}

fn check_length(schema: &Json, length: usize, path: &str) -> Result<(), Finding> {
    let (least, most) = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
    let length = length as u64;
    if least.is_none_or(|n| length >= n) && most.is_none_or(|n| length <= n) {
        return Ok(());
    }
    let expected = expectation(least.map(|n| n as f64), most.map(|n| n as f64), None);
    let problem = format!("has {length} items, expected {expected}");
    finding(path, problem, remedy_of(schema, "add or remove items"))
}

fn check_number(schema: &Json, number: f64, path: &str) -> Result<(), Finding> {
    let bound = |key: &str| schema[key].as_f64();
    let (least, most, above) = (bound("minimum"), bound("maximum"), bound("exclusiveMinimum"));
    let within = number.is_finite()
        && least.is_none_or(|bound| number >= bound)
        && most.is_none_or(|bound| number <= bound)
        && above.is_none_or(|bound| number > bound);
    if within {
        return Ok(());
    }
    let shown = if number.is_nan() { "NaN".to_owned() } else { number.to_string() };
    let problem = format!("{shown} is out of range, expected {}", expectation(least, most, above));
    finding(path, problem, remedy_of(schema, "choose a value within the range"))
}

fn expectation(least: Option<f64>, most: Option<f64>, above: Option<f64>) -> String {
    match (least, most, above) {
        (Some(least), Some(most), _) => format!("{least} to {most}"),
        (Some(least), None, _) => format!("{least} or more"),
        (None, Some(most), _) => format!("at most {most}"),
        (None, None, Some(above)) => format!("a number above {above}"),
        (None, None, None) => "a finite number".into(),
    }
}

fn remedy_of(schema: &Json, general: &str) -> String {
    schema["x-remedy"].as_str().unwrap_or(general).to_owned()
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;

    use super::*;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Outer {
        #[schemars(range(min = 1, max = 9))]
        count: usize,
        #[schemars(range(min = 0.0))]
        share: Option<f64>,
        #[schemars(extend("exclusiveMinimum" = 0.0, "x-remedy" = "leave it out"))]
        limit: Option<f64>,
        inner: Option<Inner>,
        #[schemars(length(min = 2), inner(range(max = 1.0)))]
        list: Vec<f64>,
        free: f64,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Inner {
        #[schemars(range(min = 1))]
        draws: usize,
    }

    fn checked(yaml: &str) -> Result<(), Finding> {
        check(&schemars::schema_for!(Outer), &serde_yaml::from_str(yaml).expect("YAML"))
    }

    #[test]
    fn numbers_within_their_ranges_are_accepted() {
        for yaml in [
            "{count: 1, share: 0, limit: 0.1, inner: {draws: 1}, list: [0, 1], free: -1e300}",
            "{count: 9, share: null, inner: null}",
        ] {
            assert_eq!(checked(yaml), Ok(()), "{yaml}");
        }
    }

    #[test]
    fn each_kind_of_bound_is_checked_and_named() {
        for (yaml, key, says) in [
            ("{count: 0}", "count", "0 is out of range, expected 1 to 9"),
            ("{count: 10}", "count", "10 is out of range, expected 1 to 9"),
            ("{share: -0.1}", "share", "expected 0 or more"),
            ("{share: .nan}", "share", "NaN is out of range"),
            ("{limit: 0}", "limit", "expected a number above 0"),
            ("{inner: {draws: 0}}", "inner.draws", "expected 1 or more"),
            ("{list: [1]}", "list", "has 1 items, expected 2 or more"),
            ("{list: [1, 2]}", "list[1]", "2 is out of range, expected at most 1"),
            ("{free: .inf}", "free", "expected a finite number"),
        ] {
            let (found, problem, _) = checked(yaml).expect_err(yaml);
            assert_eq!(found, key, "{yaml}");
            assert!(problem.contains(says), "{yaml}: {problem}");
        }
        assert_eq!(checked("{limit: -1}").expect_err("below").2, "leave it out");
    }
}
