//! Documents as mirrors write them, and as nobody should.

use super::*;

fn document(inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">{inside}</metalink>"
    )
}

fn parse(inside: &str) -> Result<Metalink, MetalinkError> {
    Metalink::parse(document(inside).as_bytes())
}

/// The first example of RFC 5854, section 1.1, with hashes.
const EXAMPLE: &str = r#"
  <published>2009-05-15T12:23:23Z</published>
  <file name="example.ext">
    <size>14471447</size>
    <identity>Example</identity>
    <version>1.0</version>
    <language>en</language>
    <description>A description of the example file for download.</description>
    <hash type="sha-256">f0ad929cd259957e160ea442eb80986b5f01aa0fd0a1f0b3b4d3c4b5a6978812</hash>
    <hash type="sha-1">80bc95fd391772fa61c91ed68567f0980bb45fd9</hash>
    <hash type="md5">d8e8fca2dc0f896fd7cb4cb0031ba249</hash>
    <pieces length="262144" type="sha-1">
      <hash>80bc95fd391772fa61c91ed68567f0980bb45fd9</hash>
      <hash>0000000000000000000000000000000000000001</hash>
    </pieces>
    <url location="de" priority="2">ftp://ftp.example.com/example.ext</url>
    <url location="fr" priority="3">http://example.com/example.ext?a=1&amp;b=2</url>
    <url location="gb" priority="1"> https://example.org/example.ext </url>
    <url>http://last.example/</url>
    <metaurl mediatype="torrent" priority="2">http://example.com/example.ext.torrent</metaurl>
    <metaurl mediatype="other">http://example.com/example.ext.other</metaurl>
  </file>"#;

#[test]
fn the_example_of_the_rfc_is_understood() {
    let metalink = parse(EXAMPLE).unwrap();
    let [file] = &metalink.files[..] else {
        panic!("{metalink:?}");
    };
    assert_eq!(
        (file.name.as_str(), file.size),
        ("example.ext", Some(14_471_447))
    );
    assert_eq!(file.sha256.unwrap()[..2], [0xf0, 0xad]);
    assert!(matches!(file.digest(), Some(WholeDigest::Sha256(_))));
    let urls: Vec<_> = file
        .urls
        .iter()
        .map(|url| (url.url.as_str(), url.priority))
        .collect();
    assert_eq!(
        urls,
        [
            ("https://example.org/example.ext", 1),
            ("http://example.com/example.ext?a=1&b=2", 3),
            ("http://last.example/", 999_999),
        ]
    );
    assert_eq!(file.urls[0].location.as_deref(), Some("gb"));
    assert_eq!(file.torrents.len(), 1);
    let (length, hashes) = file.pieces.clone().unwrap();
    assert_eq!((length, hashes.len(), hashes[1][19]), (262_144, 2, 1));
    assert_eq!(file.plain().unwrap().path, [b"example.ext"]);
}

#[test]
fn a_prefix_and_cdata_are_as_good() {
    let text = r#"<m:metalink xmlns:m="urn:ietf:params:xml:ns:metalink"><m:file name="a/b&amp;c">
        <m:url><![CDATA[http://a.example/?x&y]]></m:url></m:file></m:metalink>"#;
    let metalink = Metalink::parse(text.as_bytes()).unwrap();
    assert_eq!(metalink.files[0].name, "a/b&c");
    assert_eq!(
        metalink.files[0].urls[0].url.as_str(),
        "http://a.example/?x&y"
    );
    assert_eq!(metalink.files[0].plain(), None, "its length is not said");
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused() {
    for name in ["", "/etc/passwd", "../a", "a/../b", "a/", "a//b", "."] {
        let inside = format!("<file name=\"{name}\"></file>");
        assert_eq!(parse(&inside), Err(MetalinkError::Name), "{name}");
    }
    assert_eq!(parse("<file></file>"), Err(MetalinkError::Name));
}

#[test]
fn what_expands_or_is_no_metalink_is_refused() {
    let bomb = "<!DOCTYPE metalink [<!ENTITY a \"aaaa\">]>\
        <metalink xmlns=\"urn:ietf:params:xml:ns:metalink\"></metalink>";
    assert_eq!(
        Metalink::parse(bomb.as_bytes()),
        Err(MetalinkError::Entities)
    );
    let entity = parse("<file name=\"a\"><url>http://a/&b;</url></file>");
    assert_eq!(entity, Err(MetalinkError::Entities));
    let version_3 = "<metalink version=\"3.0\" xmlns=\"http://www.metalinker.org/\"></metalink>";
    assert_eq!(
        Metalink::parse(version_3.as_bytes()),
        Err(MetalinkError::NotMetalink)
    );
    assert_eq!(
        Metalink::parse(b"<html></html>"),
        Err(MetalinkError::NotMetalink)
    );
    assert_eq!(Metalink::parse(b"\xff"), Err(MetalinkError::Encoding));
    assert!(matches!(
        parse("<file name=\"a\"></url>"),
        Err(MetalinkError::Xml(_))
    ));
    assert_eq!(parse(""), Err(MetalinkError::NoFiles));
    let deep = "<a>".repeat(MAX_DEPTH);
    assert_eq!(parse(&deep), Err(MetalinkError::TooDeep));
    assert_eq!(
        Metalink::parse(&vec![b' '; MAX_BYTES + 1]),
        Err(MetalinkError::TooLong)
    );
}

#[test]
fn lists_without_end_and_numbers_that_are_none_are_refused() {
    let files = "<file name=\"a\"/>".repeat(MAX_FILES + 1);
    assert_eq!(parse(&files), Err(MetalinkError::TooMany("files")));
    let urls = "<url>http://a.example/</url>".repeat(MAX_URLS + 1);
    let file = format!("<file name=\"a\">{urls}</file>");
    assert_eq!(
        parse(&file),
        Err(MetalinkError::TooMany("URLs of one file"))
    );
    for size in ["", "-1", "1.5", "99999999999999999999"] {
        let file = format!("<file name=\"a\"><size>{size}</size></file>");
        assert!(
            matches!(parse(&file), Err(MetalinkError::Number("size", _))),
            "{size}"
        );
    }
}

#[test]
fn pieces_that_cannot_be_used_are_left_out() {
    let hash = "<hash>80bc95fd391772fa61c91ed68567f0980bb45fd9</hash>";
    for (length, kind, hashes) in [
        ("262144", "sha-256", hash),
        ("1000", "sha-1", hash),
        ("262145", "sha-1", hash),
        ("262144", "sha-1", "<hash>zz</hash>"),
    ] {
        let inside = format!(
            "<file name=\"a\"><pieces length=\"{length}\" type=\"{kind}\">{hashes}</pieces></file>"
        );
        assert_eq!(parse(&inside).unwrap().files[0].pieces, None, "{inside}");
    }
}
