//! Checks the Markdown files of the tree: relative links, anchors, and the table of contents of the
//! site.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A Markdown file: the anchors that it defines and the links that it contains.
#[derive(Debug, Default)]
struct Page {
    anchors: BTreeSet<String>,
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    target: String,
    line: usize,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace exists")
}

/// Every Markdown file below the root, by its path from there. Skips dotfiles and build output.
fn pages() -> BTreeMap<PathBuf, Page> {
    let root = root();
    let mut pages = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folders of the tree are readable") {
            let entry = entry.expect("folders of the tree are readable");
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if entry.file_type().expect("an entry has a type").is_dir() {
                folders.push(path);
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let from_root = path
                    .strip_prefix(&root)
                    .expect("it was found below the root");
                pages.insert(from_root.to_owned(), Page::parse(&text));
            }
        }
    }
    pages
}

impl Page {
    fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let mut heading: Option<String> = None;
        let mut repeats = BTreeMap::<String, usize>::new();
        let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES;
        for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let slug = slug(&heading.take().unwrap_or_default());
                    let repeat = repeats.entry(slug.clone()).or_default();
                    let anchor = if *repeat == 0 {
                        slug
                    } else {
                        format!("{slug}-{repeat}")
                    };
                    *repeat += 1;
                    page.anchors.insert(anchor);
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    let line = text[..range.start].lines().count().max(1);
                    page.links.push(Link {
                        target: dest_url.into_string(),
                        line,
                    });
                }
                _ => {}
            }
        }
        page
    }
}

/// The anchor of a heading, as GitHub and mdBook derive it.
fn slug(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ => letter.is_alphanumeric().then_some(letter),
        })
        .collect()
}

/// Resolves `..` and `.` without looking at the disk; `None` when the path leaves the tree.
fn normalize(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::CurDir => {}
            Component::ParentDir => normal.pop().then_some(())?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(normal)
}

/// Whether mdBook shows the page. `docs/design` is for readers of the source tree.
fn is_on_the_site(page: &Path) -> bool {
    page.starts_with("docs") && !page.starts_with("docs/design")
}

fn is_external(target: &str) -> bool {
    ["http://", "https://", "mailto:"]
        .iter()
        .any(|scheme| target.starts_with(scheme))
}

/// What is wrong with a relative link.
fn fault(pages: &BTreeMap<PathBuf, Page>, from: &Path, target: &str) -> Option<String> {
    let (path, anchor) = target
        .split_once('#')
        .map_or((target, None), |(p, a)| (p, Some(a)));
    let resolved = if path.is_empty() {
        Some(from.to_owned())
    } else {
        normalize(&from.parent().unwrap_or(Path::new("")).join(path))
    };
    let Some(resolved) = resolved else {
        return Some("leaves the tree".to_owned());
    };
    if !root().join(&resolved).exists() {
        return Some(format!("{} does not exist", resolved.display()));
    }
    let anchor = anchor?;
    match pages.get(&resolved) {
        None => Some(format!("{} has no anchors", resolved.display())),
        Some(page) if page.anchors.contains(anchor) => None,
        Some(_) => Some(format!("{} has no heading #{anchor}", resolved.display())),
    }
}

#[test]
fn every_relative_link_and_anchor_in_markdown_resolves() {
    let pages = pages();
    let mut faults = Vec::new();
    for (from, page) in &pages {
        for link in page.links.iter().filter(|link| !is_external(&link.target)) {
            if let Some(fault) = fault(&pages, from, &link.target) {
                faults.push(format!(
                    "{}:{}: {}: {fault}",
                    from.display(),
                    link.line,
                    link.target
                ));
            }
        }
    }
    assert!(
        pages.contains_key(Path::new("README.md")),
        "no README.md found"
    );
    assert!(faults.is_empty(), "broken links:\n{}", faults.join("\n"));
}

#[test]
fn every_page_below_docs_is_in_the_summary() {
    let pages = pages();
    let docs = Path::new("docs");
    let summary = &pages[&docs.join("SUMMARY.md")];
    let listed: BTreeSet<_> = summary
        .links
        .iter()
        .filter_map(|link| normalize(&docs.join(&link.target)))
        .collect();
    let missing: Vec<_> = pages
        .keys()
        .filter(|page| is_on_the_site(page) && !page.ends_with("SUMMARY.md"))
        .filter(|page| !listed.contains(*page))
        .collect();
    assert!(
        missing.is_empty(),
        "add these pages to docs/SUMMARY.md: {missing:?}"
    );
}

/// The site contains only the pages below `docs`, so a link from there to another file of the tree
/// would be broken on it.
#[test]
fn no_page_below_docs_links_out_of_docs() {
    let mut faults = Vec::new();
    for (from, page) in pages().iter().filter(|(from, _)| is_on_the_site(from)) {
        for link in page.links.iter().filter(|link| !is_external(&link.target)) {
            let path = link.target.split('#').next().unwrap_or_default();
            let target = from.parent().unwrap_or(Path::new("")).join(path);
            if !path.is_empty() && !normalize(&target).is_some_and(|path| path.starts_with("docs"))
            {
                faults.push(format!("{}:{}: {}", from.display(), link.line, link.target));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "name these files in code style instead:\n{}",
        faults.join("\n")
    );
}

#[test]
fn a_heading_becomes_the_anchor_that_github_gives_it() {
    assert_eq!(slug("Follow one machine"), "follow-one-machine");
    assert_eq!(slug("`503`: why, and what to do"), "503-why-and-what-to-do");
    assert_eq!(slug("What a `Profile` is"), "what-a-profile-is");
}
