//! The rooms of `src/`: which may use which, the picture of them, and names of types.
//! `UPDATE_GUIDE=1` draws the picture again.

mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::support::path;

/// Not rooms: the program's entry, the list of modules, and the guide.
const OTHERS: [&str; 3] = ["main", "lib", "guide"];
/// Type names that are defined more than once and not private. This list only gets shorter.
const DEFINED_TWICE: &[&str] = &[];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoomTable {
    rooms: Vec<Room>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Room {
    name: String,
    column: Column,
    does: String,
    gives: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Column {
    Ground,
    Data,
    Front,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    room: String,
    uses: String,
    because: String,
}

fn rooms() -> RoomTable {
    let text = std::fs::read_to_string(path("src/guide/rooms.yaml")).expect("the table of rooms");
    serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("src/guide/rooms.yaml: {e}"))
}

/// The code of a file without comments and without its unit tests, which may use any room.
fn production_code(file: &Path, text: &str) -> String {
    if file.iter().any(|part| part == "tests.rs" || part == "tests") {
        return String::new();
    }
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// All Rust files of `src/` with their production code.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![path("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the source") {
            let file = entry.expect("entry").path();
            if file.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&file).expect("UTF-8");
                let code = production_code(&file, &text);
                found.push((file, code));
            }
        }
    }
    found
}

/// The room that a file belongs to: the first part of its path in `src/`.
fn room_of(file: &Path) -> String {
    let inside = file.strip_prefix(path("src")).expect("a file of src");
    let first = inside.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Names that follow `crate::` in code, those of a group `crate::{a, b::c}` too.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let paths = code.split("crate::").skip(1).chain(code.split("universal_neurons::").skip(1));
    for rest in paths {
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads_of_group(group)),
            None => found.extend(head(rest)),
        }
    }
    found
}

/// The first name of a path; `Error` and `Result` are exported from the room of errors.
fn head(path: &str) -> Option<String> {
    let name = path.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    let name = if matches!(name, "Error" | "Result") { "error" } else { name };
    (!name.is_empty()).then(|| name.to_owned())
}

/// The first names of the paths in a group, up to its closing brace.
fn heads_of_group(group: &str) -> Vec<String> {
    let (mut depth, mut part, mut found) = (1, String::new(), Vec::new());
    for c in group.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            break;
        }
        if depth == 1 && c == ',' {
            found.extend(head(&std::mem::take(&mut part)));
        } else {
            part.push(c);
        }
    }
    found.extend(head(&part));
    found
}

/// Which rooms each room uses.
fn dependencies(names: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, code) in sources() {
        let room = room_of(&file);
        if !OTHERS.contains(&&*room) {
            let used = uses(&code).into_iter().filter(|u| *u != room && names.contains(u));
            all.entry(room.clone()).or_default().extend(used);
        }
    }
    all
}

/// What opens a file by its path.
const OPENS: [&str; 6] =
    ["File::open", "fs::read(", "fs::read_to_string", "OpenOptions", "from_path(", "Mmap"];
/// Rooms that may: `input` for files of users, `store` and `hub` for their own.
const OPENERS: [&str; 3] = ["input", "store", "hub"];

#[test]
fn files_of_users_are_opened_in_input_only() {
    for (file, code) in sources() {
        if !OPENERS.contains(&&*room_of(&file)) {
            let other = |before: &str| before.ends_with(|c: char| c.is_alphanumeric());
            let opens =
                |opens: &&&str| code.match_indices(**opens).any(|(at, _)| !other(&code[..at]));
            let found: Vec<&&str> = OPENS.iter().filter(opens).collect();
            assert!(found.is_empty(), "{}: {found:?}; use InputFile", file.display());
        }
    }
}

#[test]
fn every_room_is_in_the_table_once() {
    let table = rooms();
    let names: BTreeSet<String> = table.rooms.iter().map(|r| r.name.clone()).collect();
    assert_eq!(names.len(), table.rooms.len(), "a room is listed twice");
    let there: BTreeSet<String> = sources().iter().map(|(file, _)| room_of(file)).collect();
    let there: BTreeSet<String> =
        there.into_iter().filter(|room| !OTHERS.contains(&&**room)).collect();
    assert_eq!(there, names, "src/guide/rooms.yaml lists other rooms than src/ has");
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let table = rooms();
    let names: BTreeSet<String> = table.rooms.iter().map(|r| r.name.clone()).collect();
    let place = |name: &str| table.rooms.iter().position(|r| r.name == name);
    let mut against = BTreeSet::new();
    for (room, used) in dependencies(&names) {
        let upward = used.into_iter().filter(|used| place(used) > place(&room));
        against.extend(upward.map(|used| (room.clone(), used)));
    }
    assert!(table.exceptions.iter().all(|e| !e.because.is_empty()));
    let known = table.exceptions.into_iter().map(|e| (e.room, e.uses)).collect();
    assert_eq!(against, known, "uses against the order of src/guide/rooms.yaml, and exceptions");
}

#[test]
fn the_front_page_lists_the_rooms_in_their_order() {
    let text = std::fs::read_to_string(path("src/lib.rs")).expect("the library's root");
    let listed = text.lines().filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"));
    let listed: Vec<(String, String)> = listed
        .filter_map(|row| row.split_once(" | "))
        .map(|(name, does)| (name.replace(['[', ']', '`'], ""), does.to_owned()))
        .skip(1)
        .collect();
    let rooms: Vec<(String, String)> =
        rooms().rooms.into_iter().map(|room| (room.name, room.does)).collect();
    assert_eq!(listed, rooms, "the modules that src/lib.rs lists");
}

#[test]
fn uses_are_found_in_every_form() {
    let code = "use crate::a::B;\nuse crate::{c::{d, e}, f, Error};\nlet x = crate::g::h();";
    let found: Vec<String> = uses(code).into_iter().collect();
    assert_eq!(found, ["a", "c", "error", "f", "g"]);
    let file = "use crate::a;\n// crate::b\n\n#[cfg(test)]\nmod tests {\nuse crate::c;\n}";
    assert_eq!(production_code(Path::new("x.rs"), file).trim_end(), "use crate::a;");
    assert_eq!(production_code(Path::new("tests.rs"), file), "");
    let dependencies = dependencies(&["error".to_owned(), "plan".to_owned()].into());
    assert!(dependencies["report"].contains("plan") && dependencies.len() > 20);
}

/// The name of the type that a line defines, if it is visible outside its file.
fn visible_type(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')')?.1,
        None => rest,
    };
    let (keyword, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let is_type = ["struct", "enum", "trait", "type", "union"].contains(&keyword);
    is_type.then(|| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default())
}

#[test]
fn a_visible_type_name_is_defined_once() {
    let mut defined: BTreeMap<String, usize> = BTreeMap::new();
    for (_, code) in sources() {
        for name in code.lines().filter_map(visible_type) {
            *defined.entry(name.to_owned()).or_default() += 1;
        }
    }
    assert!(defined.len() > 100, "{} types", defined.len());
    let twice: Vec<&str> =
        defined.iter().filter(|(_, n)| **n > 1).map(|(name, _)| name.as_str()).collect();
    assert_eq!(twice, DEFINED_TWICE, "type names that are defined twice, and the known ones");
}

#[test]
fn visible_types_are_recognised() {
    assert_eq!(visible_type("pub struct Neuron<'a> {"), Some("Neuron"));
    assert_eq!(visible_type("    pub(super) type Outcome<T> = T;"), Some("Outcome"));
    assert_eq!(visible_type("pub(in crate::model) enum Site {"), Some("Site"));
    assert_eq!(visible_type("struct Private;"), None);
    assert_eq!(visible_type("pub fn structure() {"), None);
}

const BOX: (usize, usize) = (196, 40);
const STEP: usize = 58;
const COLUMNS: [(Column, usize, &str); 3] = [
    (Column::Ground, 16, "used by all"),
    (Column::Data, 262, "from text to report"),
    (Column::Front, 508, "called by users"),
];

/// Text as it may stand in SVG.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// The picture: a column for each part, with arrows along data's way.
fn picture(table: &RoomTable) -> String {
    let of = |column| table.rooms.iter().filter(move |r| r.column == column);
    let most = COLUMNS.iter().map(|(c, ..)| of(*c).count()).max().unwrap_or(0);
    let height = 48 + STEP * most;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {height}\" width=\"720\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <title>The rooms of src, and data's way through them</title>\n\
         <rect width=\"720\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let text = |x: usize, y: usize, style: &str, words: &str| {
        format!("<text x=\"{x}\" y=\"{y}\" {style}>{}</text>\n", escaped(words))
    };
    for (column, x, title) in COLUMNS {
        svg += &text(x, 24, "font-weight=\"bold\" fill=\"#333333\"", title);
        let fill = if column == Column::Data { "#dceaf7" } else { "#f1f1f1" };
        for (i, room) in of(column).enumerate() {
            let y = 36 + i * STEP;
            let (width, tall) = BOX;
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{tall}\" rx=\"4\" \
                 fill=\"{fill}\" stroke=\"#555555\"/>"
            );
            svg += &text(x + 8, y + 16, "font-weight=\"bold\"", &room.name);
            svg += &text(x + 8, y + 32, "fill=\"#333333\"", &room.does);
            if let Some(gives) = &room.gives {
                let (middle, bottom) = (x + 24, y + tall);
                let _ = writeln!(
                    svg,
                    "<path d=\"M{middle} {bottom}v14m-4 -5l4 5l4 -5\" fill=\"none\" \
                     stroke=\"#1f5f99\"/>"
                );
                svg += &text(middle + 10, bottom + 13, "fill=\"#1f5f99\"", gives);
            }
        }
    }
    svg + "</svg>\n"
}

/// The picture as an address, which a page that has no file beside it can show.
fn address(svg: &str) -> String {
    let kept = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/:=,".contains(&b);
    svg.bytes().fold("data:image/svg+xml,".to_owned(), |mut out, byte| {
        match kept(byte) {
            true => out.push(char::from(byte)),
            false => write!(out, "%{byte:02X}").expect("memory"),
        }
        out
    })
}

#[test]
fn the_picture_of_the_rooms_is_current() {
    let svg = picture(&rooms());
    for (file, now) in
        [("src/guide/rooms.svg", svg.clone()), ("src/guide/rooms.uri", address(&svg))]
    {
        if std::env::var_os("UPDATE_GUIDE").is_some() {
            std::fs::write(path(file), &now).expect("write");
        }
        let kept = std::fs::read_to_string(path(file)).unwrap_or_default();
        assert!(kept == now, "{file} is out of date: run UPDATE_GUIDE=1 cargo test rooms");
    }
}
