//! The Content-Security-Policy of the web app.
//!
//! Scripts come from the app's own files and nowhere else. An inline script in `index.html` is allowed by the hash of
//! its text, computed when the door starts; a build without inline scripts, the usual case, has no hash in its policy.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// The policy for a page with these inline scripts, that talks to these origins besides its own.
pub(crate) fn policy<'a>(script_hashes: &[String], connect: impl IntoIterator<Item = &'a str>) -> String {
    let mut policy = String::from("default-src 'none'; script-src 'self'");
    for hash in script_hashes {
        let _ = write!(policy, " '{hash}'");
    }
    policy.push_str("; connect-src 'self'");
    for origin in connect {
        let _ = write!(policy, " {origin}");
        if let Some(rest) = origin.strip_prefix("http") {
            // https becomes wss, http becomes ws.
            let _ = write!(policy, " ws{rest}");
        }
    }
    policy.push_str(
        "; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; media-src 'self' blob:; worker-src 'self'; \
         manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    );
    policy
}

/// The `sha256-...` source of each inline script of a page. Of a script with `src` the text does not run and is skipped.
pub(crate) fn inline_script_hashes(page: &str) -> Vec<String> {
    let mut hashes = Vec::new();
    let lower = page.to_ascii_lowercase();
    let mut at = 0;
    while let Some(start) = lower.get(at..).and_then(|rest| rest.find("<script")).map(|start| at + start) {
        let Some(open_end) = lower.get(start..).and_then(|rest| rest.find('>')).map(|end| start + end + 1) else {
            break;
        };
        let Some(close) = lower.get(open_end..).and_then(|rest| rest.find("</script")).map(|end| open_end + end) else {
            break;
        };
        let has_source = lower.get(start..open_end).is_some_and(|tag| tag.contains(" src=") || tag.contains("\nsrc="));
        if let (false, Some(text)) = (has_source, page.get(open_end..close)) {
            hashes.push(sha256_source(text));
        }
        at = close;
    }
    hashes
}

fn sha256_source(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_without_inline_scripts_allows_files_only() {
        let page = r#"<!doctype html><script type="module" crossorigin src="/assets/index-a1.js"></script>"#;
        assert!(inline_script_hashes(page).is_empty());
        let policy = policy(&[], ["https://panama.example.org", "http://localhost:7200"]);
        assert!(policy.contains("script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(policy.contains(
            "connect-src 'self' https://panama.example.org wss://panama.example.org http://localhost:7200 ws://localhost:7200;"
        ));
        assert!(policy.contains("frame-ancestors 'none'"));
    }

    #[test]
    fn an_inline_script_is_allowed_by_the_hash_a_browser_computes() {
        let page = "<SCRIPT>doSomething();</script><script>\n</script>";
        assert_eq!(
            inline_script_hashes(page)[0],
            "sha256-RFWPLDbv2BY+rCkDzsE+0fr8ylGr2R2faWMhq4lfEQc=",
            "the example of the CSP level 3 specification"
        );
        assert_eq!(inline_script_hashes(page).len(), 2);
        assert!(policy(&inline_script_hashes(page), []).contains("script-src 'self' 'sha256-RFWPLD"));
    }

    proptest! {
        #[test]
        fn any_page_is_read_without_panic(page in "(<script|</script>|>| src=|é|.){0,50}") {
            let _ = inline_script_hashes(&page);
        }
    }
}
