//! Circles between files of one room: files that cannot be understood one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::sources;
use crate::support::path;

/// Files of a room that use each other in a circle. This list only gets shorter.
const CIRCLES: &[&str] = &[];

/// The path of a file's module in the crate; the names of a path in code.
type Names = Vec<String>;

/// What a file says about other modules.
struct File {
    /// Paths that its code uses.
    uses: Vec<Names>,
    /// Paths that its `use` statements name, by the name they give.
    imports: BTreeMap<String, Names>,
}

/// Parses the paths at the beginning of a text, `a::{b, c::d}` as two; returns them with the
/// rest of the text.
fn paths(text: &str) -> (Vec<Names>, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && !"_*".contains(c));
    let (head, rest) = text.split_at(end.unwrap_or(text.len()));
    if head.is_empty() {
        return (Vec::new(), rest);
    }
    let one = vec![head.to_owned()];
    let Some(tail) = rest.strip_prefix("::") else { return (vec![one], rest) };
    let (tails, after) = match tail.strip_prefix('{') {
        Some(group) => paths_of_group(group),
        None => paths(tail),
    };
    match tails.is_empty() {
        true => (vec![one], rest),
        false => (tails.into_iter().map(|tail| [one.clone(), tail].concat()).collect(), after),
    }
}

fn paths_of_group(mut text: &str) -> (Vec<Names>, &str) {
    let mut all = Vec::new();
    loop {
        text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        let (found, after) = paths(text);
        let (renamed, closed) = (after.strip_prefix(" as "), after.strip_prefix('}'));
        all.extend(found);
        match (renamed, closed) {
            (Some(renamed), _) => text = paths(renamed).1,
            (None, Some(after)) => return (all, after),
            (None, None) if after.is_empty() => return (all, after),
            (None, None) => text = after.strip_prefix(|c: char| c != '}').unwrap_or(after),
        }
    }
}

/// Splits code into its `use` statements, with whether they are public, and the rest.
fn split_uses(code: &str) -> (Vec<(bool, String)>, String) {
    let (mut statements, mut rest, mut open) = (Vec::new(), String::new(), false);
    for line in code.lines() {
        let trimmed = line.trim_start();
        let after = trimmed.strip_prefix("pub").and_then(|after| {
            let after =
                after.strip_prefix('(').and_then(|a| a.split_once(')')).map_or(after, |a| a.1);
            after.strip_prefix(" use ")
        });
        if open {
            let (_, statement): &mut (bool, String) = statements.last_mut().expect("an open one");
            statement.push_str(trimmed);
            open = !trimmed.contains(';');
        } else if let Some(statement) = after.or_else(|| trimmed.strip_prefix("use ")) {
            statements.push((after.is_some(), statement.to_owned()));
            open = !statement.contains(';');
        } else if !(trimmed.ends_with(';') && line.contains("mod ")) {
            rest.push_str(line);
            rest.push('\n');
        }
    }
    (statements, rest)
}

/// Whether a text contains a name as a whole word.
fn mentions(text: &str, name: &str) -> bool {
    places(text, name).any(|at| !text[at + name.len()..].starts_with(is_name))
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The places where a word begins with some letters.
fn places<'a>(text: &'a str, begins: &'a str) -> impl Iterator<Item = usize> + 'a {
    let found = text.match_indices(begins).map(|(at, _)| at);
    found.filter(|at| !text[..*at].ends_with(|c: char| is_name(c) || c == ':'))
}

impl File {
    fn parse(code: &str, children: &[String]) -> Self {
        let (statements, body) = split_uses(code);
        let mut file = Self { uses: Vec::new(), imports: BTreeMap::new() };
        for (public, statement) in statements {
            for mut path in paths(&statement).0 {
                path.pop_if(|last| last == "self");
                let Some(name) = path.last().cloned() else { continue };
                // A file that only exports a name on does not use it.
                if !public || mentions(&body, &name) {
                    file.uses.push(path.clone());
                }
                file.imports.insert(name, path);
            }
        }
        let heads = ["crate", "super", "self"].into_iter().chain(children.iter().map(|c| &**c));
        for head in heads {
            let begins = format!("{head}::");
            file.uses.extend(places(&body, &begins).flat_map(|at| paths(&body[at..]).0));
        }
        file
    }
}

/// The files of the crate by their modules.
struct Files(BTreeMap<Names, File>);

impl Files {
    fn of(code: BTreeMap<Names, String>) -> Self {
        let children = |module: &Names| -> Vec<String> {
            let child = |m: &&Names| m.len() == module.len() + 1 && m.starts_with(module);
            code.keys().filter(child).filter_map(|m| m.last().cloned()).collect()
        };
        let parsed = code
            .iter()
            .map(|(module, code)| (module.clone(), File::parse(code, &children(module))));
        Self(parsed.collect())
    }

    /// The module in which a path that `module` names is defined, exports followed; none for
    /// the path of another crate.
    fn target(&self, module: &Names, path: &[String], depth: usize) -> Option<Names> {
        let child = |name: &String| {
            self.0.contains_key(&[&module[..], std::slice::from_ref(name)].concat())
        };
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (module.clone(), &path[1..]),
            "super" => (module.clone(), path),
            _ if child(&path[0]) => (module.clone(), path),
            _ => return None,
        };
        while rest.first().is_some_and(|name| name == "super") {
            at.pop();
            rest = &rest[1..];
        }
        while let [name, after @ ..] = rest {
            at.push(name.clone());
            if !self.0.contains_key(&at) {
                at.pop();
                let import = self.0.get(&at).and_then(|file| file.imports.get(name));
                let Some(import) = import.filter(|_| depth < 8) else { break };
                let path = [&import[..], after].concat();
                return self.target(&at, &path, depth + 1);
            }
            rest = after;
        }
        Some(at)
    }

    /// The files of the same room that each file uses.
    fn edges(&self) -> BTreeMap<&Names, BTreeSet<Names>> {
        let of = |(module, file): (&Names, &File)| {
            let targets = file.uses.iter().filter_map(|path| self.target(module, path, 0));
            targets.filter(|to| to != module && to.first() == module.first()).collect()
        };
        self.0.iter().map(|entry| (entry.0, of(entry))).collect()
    }

    /// The circles, each as `room: file file`.
    fn circles(&self) -> Vec<String> {
        let edges = self.edges();
        let reach = |from: &Names| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(module) = next.pop() {
                let new = edges.get(&module).into_iter().flatten();
                next.extend(new.filter(|to| seen.insert((*to).clone())).cloned());
            }
            seen
        };
        let all: BTreeMap<&Names, BTreeSet<Names>> =
            self.0.keys().map(|module| (module, reach(module))).collect();
        let circle = |module: &Names| -> Vec<String> {
            let other =
                |other: &&Names| all[module].contains(*other) && all[*other].contains(module);
            let shown = |m: &Names| if m.len() == 1 { "mod".to_owned() } else { m[1..].join("::") };
            self.0.keys().filter(other).map(shown).collect()
        };
        let named = self.0.keys().map(|module| (module.first(), circle(module)));
        let named = named.filter(|(_, files)| !files.is_empty());
        let lines = named.map(|(room, f)| format!("{}: {}", room.map_or("", |r| r), f.join(" ")));
        lines.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// The module of a file in `src/`.
fn module_of(file: &Path) -> Names {
    let inside = file.strip_prefix(path("src")).expect("a file of src").with_extension("");
    let mut names: Names = inside.iter().map(|n| n.to_string_lossy().into_owned()).collect();
    names.pop_if(|last| last == "mod");
    names
}

#[test]
fn files_of_a_room_do_not_use_each_other_in_a_circle() {
    let code = sources().into_iter().map(|(file, code)| (module_of(&file), code));
    let files = Files::of(code.collect());
    let uses: usize = files.edges().values().map(BTreeSet::len).sum();
    assert!(uses > 200, "{uses} uses between files of one room were recognised");
    assert_eq!(files.circles(), CIRCLES, "circles, and those that are known");
}

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let file = |(module, code): &(&str, &str)| {
        (module.split("::").map(str::to_owned).collect(), (*code).to_owned())
    };
    Files::of(files.iter().map(file).collect()).circles()
}

#[test]
fn circles_are_found_through_every_form_of_use() {
    let exports = "mod x;\nmod y;\npub use self::x::X;\npub use y::Y;";
    for (x, y) in [
        ("use super::y::Y;", "use super::x::X;"),
        ("use super::{Y};", "use super::{\n    Z,\n    X,\n};"),
        ("fn f() { super::y::g() }", "fn g() -> crate::room::X {}"),
        ("use crate::room::{y::{self, Y as Z}, other};", "use crate::room::x as named;"),
    ] {
        let files = [("room", exports), ("room::x", x), ("room::y", y)];
        assert_eq!(circles(&files), ["room: x y"], "{x} {y}");
        assert!(circles(&[files[0], files[1], ("room::y", "struct Y;")]).is_empty(), "{x}");
    }
    let parent = "mod x;\nuse x::X;\npub struct P;";
    assert_eq!(circles(&[("room", parent), ("room::x", "use super::P;")]), ["room: mod x"]);
    assert!(circles(&[("room", exports), ("room::x", "use super::P;")]).is_empty(), "an export");
    let used = "pub use x::X;\nfn f() -> X {}";
    assert_eq!(circles(&[("room", used), ("room::x", "use super::f;")]), ["room: mod x"]);
    let rooms = [("a::x", "use crate::b::y::Y;"), ("b::y", "use crate::a::x::X;")];
    assert!(circles(&rooms).is_empty(), "circles between rooms are the table's business");
}
