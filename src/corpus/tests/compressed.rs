//! Compressed corpora: every frame is read, and damage is seen.

use proptest::prelude::*;

use super::*;

/// A Zstandard frame that decoders skip.
fn skippable(bytes: &[u8]) -> Vec<u8> {
    [b"\x5a\x2a\x4d\x18", &(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
}

#[test]
fn every_frame_and_member_is_read() {
    let expected = texts("x.jsonl", &lines(0, 40)).expect("read");
    assert_eq!(expected.len(), 40);
    let (a, b) = (lines(0, 20), lines(20, 40));
    // A line may begin in one frame and end in another.
    let (c, d) = (lines(0, 40)[..777].to_vec(), lines(0, 40)[777..].to_vec());
    for (name, bytes) in [
        ("two.jsonl.zst", [zstd(&a), zstd(&b)].concat()),
        ("cut.jsonl.zst", [zstd(&c), zstd(&d)].concat()),
        ("skip.jsonl.zst", [skippable(b"index"), zstd(&a), skippable(b""), zstd(&b)].concat()),
        ("end.jsonl.zst", [zstd(&a), zstd(&b), skippable(&[7; 300])].concat()),
        ("empty.jsonl.zst", [zstd(b""), zstd(&a), zstd(b""), zstd(&b)].concat()),
        ("X.JSONL.ZST", zstd(&lines(0, 40))),
        ("two.jsonl.gz", [gzip(&a), gzip(&b)].concat()),
        ("cut.ndjson.gz", [gzip(&c), gzip(&d)].concat()),
        ("X.JSON.GZ", gzip(&lines(0, 40))),
        ("unsaid.zst", zstd(&lines(0, 40))),
        ("unsaid.gz", gzip(&lines(0, 40))),
        ("packed-without-a-name-that-says-so.jsonl", zstd(&lines(0, 40))),
        ("x.NDJSON", lines(0, 40)),
        ("X.JSONL", lines(0, 40)),
        ("x.json", lines(0, 40)),
        ("bom.jsonl", [b"\xef\xbb\xbf".to_vec(), lines(0, 40)].concat()),
        ("bom.jsonl.zst", zstd(&[b"\xef\xbb\xbf".to_vec(), lines(0, 40)].concat())),
        ("joined.jsonl", [&a[..], b"\xef\xbb\xbf", &b].concat()),
    ] {
        let found = texts(name, &bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found, expected, "{name}");
    }
    let text = b"\xef\xbb\xbffirst\n<|endoftext|>\n\xef\xbb\xbfsecond";
    for (name, bytes) in
        [("x.txt", text.to_vec()), ("x.TXT.gz", gzip(text)), ("x.txt.zst", zstd(text))]
    {
        assert_eq!(texts(name, &bytes).expect(name), ["first\n", "second\n"], "{name}");
    }
}

#[test]
fn a_stand_in_is_recognised_when_it_is_compressed() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    let page = [b"\xef\xbb\xbf <!DOCTYPE html>\n<html>".as_slice(), &[b' '; 1000]].concat();
    for (name, bytes, problem) in [
        ("x.txt.zst", zstd(pointer), "Git LFS pointer"),
        ("x.jsonl.gz", gzip(pointer), "Git LFS pointer"),
        ("x.jsonl.gz", gzip(&page), "web page"),
        ("x.txt.zst", zstd(&page), "web page"),
        ("x", gzip(&page), "web page"),
    ] {
        let error = documents(name, &bytes, |_| ()).expect_err(name);
        assert!(error.problem.contains(problem), "{name}: {error}");
    }
    let late = [&[b'x'; 1000][..], pointer].concat();
    assert!(documents("x.txt.gz", &gzip(&late), |_| ()).is_ok(), "only the beginning decides");
}

#[test]
fn long_windows_are_read_where_they_are_allowed() {
    let long = || {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("encoder");
        encoder.window_log(30).expect("window");
        encoder.write_all(&lines(0, 40)).expect("packed");
        encoder.finish().expect("packed")
    };
    let error = documents("x.jsonl.zst", &long(), |_| ()).expect_err("a window of 1 GiB");
    assert!(
        error.problem.contains("window") && error.remedy.contains("max_unpacked_mib"),
        "{error}"
    );
    let read = documents("x.jsonl.zst", &long(), |c| c.max_unpacked_mib = Some(1024));
    assert_eq!(read.expect("allowed").0.len(), 40);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A file with checksums that is changed anywhere gives the same documents or an error.
    #[test]
    fn damage_is_seen(at in 0usize..100_000, flip in 1u8..=255, packed in 0usize..3) {
        let (name, mut bytes) = checked(packed);
        let expected = texts(name, &bytes).expect("whole");
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if let Ok(found) = texts(name, &bytes) {
            prop_assert_eq!(found, expected, "byte {}", at);
        }
    }

    /// A file that is cut off, or to which something is added, is refused; cut between frames
    /// or members it is a whole shorter file, which nothing can tell.
    #[test]
    fn a_cut_is_seen(keep in 0usize..100_000, packed in 0usize..3, more in prop::collection::vec(any::<u8>(), 1..40)) {
        let (name, bytes) = checked(packed);
        let between = checked_parts(packed)[0].len();
        let keep = keep % bytes.len();
        if keep > 0 && keep != between {
            prop_assert!(texts(name, &bytes[..keep]).is_err(), "{} of {}", keep, bytes.len());
        }
        let longer = [bytes, more].concat();
        prop_assert!(texts(name, &longer).is_err());
    }
}

/// A compressed file of two parts with checksums, by number, and its name.
fn checked(packed: usize) -> (&'static str, Vec<u8>) {
    (["x.jsonl.zst", "x.jsonl.gz", "x.txt.gz"][packed], checked_parts(packed).concat())
}

fn checked_parts(packed: usize) -> [Vec<u8>; 2] {
    let text = b"a text of some words\n<|endoftext|>\n".as_slice();
    match packed {
        0 => [zstd(&lines(0, 20)), zstd(&lines(20, 40))],
        1 => [gzip(&lines(0, 20)), gzip(&lines(20, 40))],
        _ => [gzip(&text.repeat(9)), gzip(text)],
    }
}
