//! `GET /openapi.json`: the API described for machines, OpenAPI 3.1. The text is a file beside this one.

use axum::http::header;
use axum::response::IntoResponse;

/// The description.
pub(super) const TEXT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub(super) async fn serve() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    /// The description as a value.
    fn described() -> Value {
        serde_json::from_str(TEXT).unwrap()
    }

    #[test]
    fn every_route_and_only_those_are_described() {
        let routes: BTreeSet<(String, String)> = crate::api::routes::table()
            .iter()
            .map(|(path, method, _)| ((*path).to_owned(), method.as_str().to_lowercase()))
            .collect();
        let description = described();
        assert_eq!(description["openapi"], "3.1.0");
        let described: BTreeSet<(String, String)> = description["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())))
            .collect();
        assert_eq!(routes, described);
    }

    #[test]
    fn every_parameter_of_a_path_is_described() {
        for (path, methods) in described()["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().values() {
                let none = Vec::new();
                let named: BTreeSet<&str> = method["parameters"]
                    .as_array()
                    .unwrap_or(&none)
                    .iter()
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| parameter["name"].as_str().unwrap())
                    .collect();
                let wanted: BTreeSet<&str> = path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
                assert_eq!(named, wanted, "{path}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let description = described();
        let mut waiting = vec![&description];
        let mut followed = 0;
        while let Some(value) = waiting.pop() {
            if let Some(target) = value.get("$ref").and_then(Value::as_str) {
                let pointer = target.strip_prefix('#').unwrap();
                assert!(description.pointer(pointer).is_some(), "{target}");
                followed += 1;
            }
            waiting.extend(value.as_object().into_iter().flat_map(|object| object.values()));
            waiting.extend(value.as_array().into_iter().flatten());
        }
        assert!(followed > 20);
    }
}
