//! A whole set: the config, its zone files and what they include, read through a callback.
//!
//! Owns which files belong to a set, how `$INCLUDE` paths are resolved, and the checks that need both
//! sides, config and zones. Invariants: the callback is asked for each file once; the paths it gets depend
//! on the config's own path and on nothing else, so a copy of the files loads as they did; a set with an
//! error in any file gives every error of every file and nothing else.
//!
//! An `$INCLUDE` path is relative to the folder of the file that it stands in, and must stay in the folder
//! of the zone's own file. That is tested here on the path as written; the callback is handed the folder
//! to test it again with links resolved.

use super::source::{At, Findings, SourceText, Span};
use super::spec::{AppSpec, Spec, ZoneSpec};
use super::table::shorten;
use super::{Config, Places, build, checks, folder_of, spec};
use crate::model::{Diagnostic, Location, Name};
use crate::zone::{self, Zone};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Reads one file of a set. With a folder, the file must lie in it also after links are resolved.
/// The error is a reason for people: `no such file`.
pub type ReadFile<'r> = dyn FnMut(&Path, Option<&Path>) -> Result<Vec<u8>, String> + 'r;

/// Most files that one zone may include: a bound on chains of includes that double at each step.
const INCLUDES_MAX: usize = 10_000;

/// A set in which nothing is wrong.
#[derive(Debug)]
pub struct Loaded {
    /// The checked config.
    pub config: Config,
    /// Its zones, in the order of the config.
    pub zones: Vec<Arc<Zone>>,
    /// What is served nevertheless.
    pub warnings: Vec<Diagnostic>,
    /// Where the config says what others may find wrong with it.
    pub places: Places,
    /// Every file that was read with its octets, once, in the order of reading: the config first. The
    /// digest of a set and the last good copy are made from these.
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

/// Reads and checks a whole set.
///
/// # Errors
/// Every finding of every file, warnings among them, when at least one is an error.
pub fn load(path: &str, read: &mut ReadFile<'_>) -> Result<Loaded, Vec<Diagnostic>> {
    let mut files = Files::new(read);
    let octets = files
        .read(Path::new(path), None)
        .map_err(|error| vec![Diagnostic::error(None, format!("{path} cannot be read: {error}"))])?;
    let (text, bad_octet) = text_of(octets);
    let source = SourceText::new(path, text);
    let mut findings = Findings::new(&source);
    if let Some(at) = bad_octet {
        findings.error(Span { start: at, end: at }, "the config is not UTF-8 from here on");
    }
    let spec = spec::read(&source, &mut findings).unwrap_or_default();
    checks::run(&spec, &mut findings);
    let mut zones = Vec::new();
    let mut zone_findings = Vec::new();
    for zone in &spec.zones {
        zones.push(read_zone(zone, &source, &mut files, &mut findings, &mut zone_findings));
    }
    let by_apex = spec
        .zones
        .iter()
        .zip(&zones)
        .filter_map(|(spec, zone)| Some((&spec.name.as_ref()?.value, zone)));
    steered_names_fit_their_zones(&spec, &by_apex.collect(), &files, &mut findings, &mut zone_findings);
    let mut all = findings.finish();
    all.append(&mut zone_findings);
    if all.iter().any(Diagnostic::is_error) {
        return Err(all);
    }
    let config = build::build(&spec, &source);
    match (config, zones.into_iter().map(ZoneRead::whole).collect::<Option<Vec<_>>>()) {
        (Some(config), Some(zones)) => Ok(Loaded {
            config,
            zones,
            warnings: all,
            places: Places::of(&spec, source),
            files: files.list,
        }),
        // A reader that leaves something out must have said so; should one not, refuse rather than guess.
        _ => Err(vec![Diagnostic::error(
            None,
            format!("{path} has a part that could not be read and was not reported"),
        )]),
    }
}

/// Octets as text, and where they stop being UTF-8; what is no UTF-8 is replaced, so that the rest is still read.
fn text_of(octets: Vec<u8>) -> (String, Option<usize>) {
    match String::from_utf8(octets) {
        Ok(text) => (text, None),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(at))
        }
    }
}

/// The files of a set, each asked for once.
struct Files<'r, 'c> {
    /// Gives a file's octets.
    read: &'r mut ReadFile<'c>,
    /// What was read, in order.
    list: Vec<(PathBuf, Vec<u8>)>,
    /// Where in the list a path stands.
    index: HashMap<PathBuf, usize>,
}

impl<'r, 'c> Files<'r, 'c> {
    /// Nothing read yet.
    fn new(read: &'r mut ReadFile<'c>) -> Files<'r, 'c> {
        Files {
            read,
            list: Vec::new(),
            index: HashMap::new(),
        }
    }

    /// The octets of a file.
    fn read(&mut self, path: &Path, inside: Option<&Path>) -> Result<Vec<u8>, String> {
        if let Some(octets) = self.octets(path) {
            return Ok(octets.to_vec());
        }
        let octets = (self.read)(path, inside)?;
        self.index.insert(path.to_owned(), self.list.len());
        self.list.push((path.to_owned(), octets.clone()));
        Ok(octets)
    }

    /// The octets of a file that was read before.
    fn octets(&self, path: &Path) -> Option<&[u8]> {
        let (_, octets) = self.list.get(*self.index.get(path)?)?;
        Some(octets)
    }

    /// The line at a place, for people.
    fn line(&self, at: &Location) -> Option<String> {
        let octets = self.octets(Path::new(&at.file))?;
        let line = octets.split(|octet| *octet == b'\n').nth(at.line.checked_sub(1)?)?;
        let line = String::from_utf8_lossy(line);
        let line: String = line.trim_end().chars().take(200).collect();
        (!line.is_empty()).then_some(line)
    }
}

/// What came of reading a zone.
enum ZoneRead {
    /// The whole zone.
    Whole(Arc<Zone>),
    /// It has errors; steered names are still judged by what could be read.
    Part(zone::Part),
    /// There is no such file.
    Nothing,
}

impl ZoneRead {
    /// The zone, if it is whole.
    fn whole(self) -> Option<Arc<Zone>> {
        match self {
            ZoneRead::Whole(zone) => Some(zone),
            ZoneRead::Part(_) | ZoneRead::Nothing => None,
        }
    }

    /// What is wrong with a steered name in it.
    fn check_steered(&self, name: &Name, cname_possible: bool) -> Vec<Diagnostic> {
        match self {
            ZoneRead::Whole(zone) => zone::check_steered(zone, name, cname_possible),
            ZoneRead::Part(part) => part.check_steered(name, cname_possible),
            ZoneRead::Nothing => Vec::new(),
        }
    }
}

/// Reads one zone; what is wrong with its file goes to `zone_findings`, a file that is not there to `findings`.
fn read_zone(
    spec: &ZoneSpec,
    source: &SourceText,
    files: &mut Files<'_, '_>,
    findings: &mut Findings<'_>,
    zone_findings: &mut Vec<Diagnostic>,
) -> ZoneRead {
    let (Some(name), Some(file)) = (spec.name.as_ref(), spec.file.as_ref()) else {
        return ZoneRead::Nothing;
    };
    let path = folder_of(&source.path).join(&file.value);
    let text = match files.read(&path, None) {
        Ok(text) => text,
        Err(error) => {
            findings.error(file.span, format!("the zone file {} cannot be read: {error}", path.display()));
            return ZoneRead::Nothing;
        }
    };
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let zone_source = zone::Source { path: shown(&path), text };
    let mut included = 0;
    let mut include = |written: &str, from: &str| {
        included += 1;
        if included > INCLUDES_MAX {
            return Err(format!("a zone may include at most {INCLUDES_MAX} files"));
        }
        let path = include_path(&folder, Path::new(from), written)?;
        let text = files.read(&path, Some(&folder))?;
        Ok(zone::Source { path: shown(&path), text })
    };
    match zone::read_or_part(&zone_source, &name.value, &mut include) {
        Ok(loaded) => {
            zone_findings.extend(loaded.warnings);
            ZoneRead::Whole(Arc::new(loaded.zone))
        }
        Err(broken) => {
            zone_findings.extend(broken.errors);
            ZoneRead::Part(broken.part)
        }
    }
}

/// A path as findings show it. Paths come from UTF-8 text, so nothing is lost.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Where an included file lies: relative to the file that includes it, and in `folder`, the zone's own.
fn include_path(folder: &Path, from: &Path, written: &str) -> Result<PathBuf, String> {
    if written.is_empty() || written.contains('\0') {
        return Err("this is no path".to_owned());
    }
    let outside = || {
        format!(
            "it must be a relative path that stays in the zone's folder, {}",
            folder_shown(folder)
        )
    };
    // What is read below the folder was resolved here before, so `from` begins with the folder.
    let below = from
        .parent()
        .and_then(|parent| parent.strip_prefix(folder).ok())
        .ok_or_else(outside)?;
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for component in below.components().chain(Path::new(written).components()) {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir if parts.pop().is_some() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    if parts.is_empty() {
        return Err("this is a folder".to_owned());
    }
    Ok(parts.into_iter().fold(folder.to_owned(), |path, part| path.join(part)))
}

/// A folder in a message.
fn folder_shown(folder: &Path) -> String {
    if folder.as_os_str().is_empty() {
        ".".to_owned()
    } else {
        folder.display().to_string()
    }
}

/// Every steered name may stand where it does in the zone that it lies in (`zone::check_steered`); each
/// finding shows both places.
fn steered_names_fit_their_zones(
    spec: &Spec,
    zones: &BTreeMap<&Name, &ZoneRead>,
    files: &Files<'_, '_>,
    findings: &mut Findings<'_>,
    zone_findings: &mut Vec<Diagnostic>,
) {
    let apexes: BTreeSet<&Name> = zones.keys().copied().collect();
    for app in &spec.apps {
        let cname_possible = checks::cname_is_possible(app);
        // A wildcard was refused by the config's own rules.
        for name in app.names().filter(|name| !name.value.is_wildcard()) {
            let Some(apex) = checks::zone_of(&apexes, &name.value) else {
                continue;
            };
            let Some(zone) = zones.get(apex) else { continue };
            // So was a host name at the apex.
            let cname_possible = cname_possible && name.value != *apex;
            for finding in zone.check_steered(&name.value, cname_possible) {
                place_steered(finding, app, name, files, findings, zone_findings);
            }
        }
    }
}

/// Adds a finding about a steered name with both its places, that in the zone file first.
fn place_steered(
    mut finding: Diagnostic,
    app: &AppSpec,
    name: &At<Name>,
    files: &Files<'_, '_>,
    findings: &mut Findings<'_>,
    zone_findings: &mut Vec<Diagnostic>,
) {
    let Some(at) = &finding.at else {
        findings.push(name.span, finding);
        return;
    };
    finding.snippet = finding.snippet.or_else(|| files.line(at));
    if finding.related.is_none() {
        let label = format!("steered here, by the application {}", shorten(&app.id.value));
        finding.related = Some((findings.locate(name.span), label));
    }
    zone_findings.push(finding);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_stay_in_the_zones_folder() {
        let cases: [(&str, &str, Option<&str>); 11] = [
            ("zones/a.zone", "b.inc", Some("zones/b.inc")),
            ("zones/a.zone", "sub/b.inc", Some("zones/sub/b.inc")),
            ("zones/a.zone", "./b.inc", Some("zones/b.inc")),
            ("zones/sub/b.inc", "../c.inc", Some("zones/c.inc")),
            ("zones/sub/b.inc", "c.inc", Some("zones/sub/c.inc")),
            ("zones/a.zone", "../b.inc", None),
            ("zones/a.zone", "sub/../../b.inc", None),
            ("zones/a.zone", "/etc/passwd", None),
            ("zones/a.zone", "", None),
            ("zones/a.zone", ".", None),
            ("zones/a.zone", "b\0", None),
        ];
        for (from, written, path) in cases {
            let resolved = include_path(Path::new("zones"), Path::new(from), written).ok();
            assert_eq!(resolved, path.map(PathBuf::from), "{written} in {from}");
        }
        assert_eq!(include_path(Path::new(""), Path::new("a.zone"), "b"), Ok(PathBuf::from("b")));
    }
}
