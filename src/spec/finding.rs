//! A mistake in a spec.

/// The key path of a mistake in a spec, the problem, and the remedy.
pub type Finding = (String, String, String);

/// Returns a finding as an error.
///
/// # Errors
/// Always returns an error: the finding.
pub fn finding<T>(
    key: impl Into<String>,
    problem: impl Into<String>,
    remedy: impl Into<String>,
) -> Result<T, Finding> {
    Err((key.into(), problem.into(), remedy.into()))
}
