//! Where a config says what is judged only later: against the ledger, the config before, or the disk.
//!
//! The rules of this module look at one set alone and point into it while they hold its text. What others find wrong with
//! it afterwards should point into it too, so a loaded set keeps the places that they may need, with the line for people.

use super::source::{SourceText, Span};
use super::spec::Spec;
use crate::model::{AppId, Diagnostic, Name, RegionId};
use std::collections::HashMap;

/// What somebody may want to point at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// `regions` of an application.
    Regions(AppId),
    /// The endpoints of a region of an application.
    Endpoints(AppId, RegionId),
    /// Where a steered name is written.
    Name(Name),
    /// `cookie-secret-file` of `[dns]`.
    CookieSecretFile,
    /// `token-file` of `[api]`.
    TokenFile,
    /// `cert` of `tls` of `[api]`.
    TlsCert,
    /// `key` of `tls` of `[api]`.
    TlsKey,
    /// `cert` of `tls` of `[dns]`.
    DnsTlsCert,
    /// `key` of `tls` of `[dns]`.
    DnsTlsKey,
    /// A probe of an application, by its number from 0.
    Probe(AppId, usize),
}

/// The places of one config.
#[derive(Debug)]
pub struct Places {
    source: SourceText,
    /// Offsets into the text.
    found: HashMap<Place, usize>,
}

impl Places {
    /// Collects the places of a spec.
    pub(super) fn of(spec: &Spec, source: SourceText) -> Places {
        let mut found = HashMap::new();
        let mut add = |place, span: Span| {
            found.insert(place, span.start);
        };
        for app in &spec.apps {
            let id = AppId::new(&app.id.value);
            if let Some(regions) = &app.regions {
                add(Place::Regions(id.clone()), regions.span);
            }
            for (region, endpoints) in &app.endpoints {
                add(Place::Endpoints(id.clone(), RegionId::new(&region.value)), endpoints.span);
            }
            for name in app.names() {
                add(Place::Name(name.value.clone()), name.span);
            }
            for (number, probe) in app.probes.iter().enumerate() {
                add(Place::Probe(id.clone(), number), probe.span);
            }
        }
        if let Some(file) = &spec.dns.service.cookie_secret_file {
            add(Place::CookieSecretFile, file.span);
        }
        if let Some(file) = &spec.api.token_file {
            add(Place::TokenFile, file.span);
        }
        if let Some((cert, key)) = &spec.api.tls {
            add(Place::TlsCert, cert.span);
            add(Place::TlsKey, key.span);
        }
        if let Some((cert, key)) = &spec.dns.encrypted.tls {
            add(Place::DnsTlsCert, cert.span);
            add(Place::DnsTlsKey, key.span);
        }
        Places { source, found }
    }

    /// A finding with its place and the line there, as far as the place is known.
    #[must_use]
    pub fn put(&self, place: &Place, mut finding: Diagnostic) -> Diagnostic {
        let Some(offset) = self.found.get(place) else { return finding };
        finding.at = Some(self.source.locate(*offset));
        // The line of a probe may hold the value of a header, which is a secret.
        if !matches!(place, Place::Probe(..)) {
            finding.snippet = self.source.snippet(*offset);
        }
        finding
    }
}
