//! Where models are fetched from.

use std::path::{Path, PathBuf};

/// The public hub.
const PUBLIC: &str = "https://huggingface.co";

/// Where models are looked for.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    /// Address of the hub; the public one if it is absent.
    pub base: Option<String>,
    /// A cache of the hub's own tools, which is read and never written.
    pub cache: Option<PathBuf>,
    /// Whether no socket may be opened.
    pub offline: bool,
    /// The access token.
    pub token: Option<String>,
}

impl Hub {
    /// Takes the settings from the variables of the hub's own tools: HF_ENDPOINT, HF_HUB_CACHE or
    /// HF_HOME, HF_HUB_OFFLINE and HF_TOKEN.
    pub fn of_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let home = text("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&text("HOME")?).join(".cache").join("huggingface")));
        let cache = text("HF_HUB_CACHE").map(PathBuf::from);
        let yes = |v: String| !["0", "no", "false", "off"].contains(&v.to_lowercase().as_str());
        Self {
            base: text("HF_ENDPOINT"),
            cache: cache.or_else(|| Some(home?.join("hub"))),
            offline: text("HF_HUB_OFFLINE").is_some_and(yes),
            token: text("HF_TOKEN"),
        }
    }

    /// Returns the address of a file of a repository.
    pub(super) fn url(&self, repo: &str, revision: &str, file: &str) -> String {
        let base = self.base.as_deref().unwrap_or(PUBLIC).trim_end_matches('/');
        format!("{base}/{repo}/resolve/{revision}/{file}")
    }

    /// Returns the folder of a repository in the cache.
    pub(super) fn cached(&self, repo: &str) -> Option<PathBuf> {
        Some(self.cache.as_ref()?.join(format!("models--{}", repo.replace('/', "--"))))
    }
}
