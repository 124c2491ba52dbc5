//! Where steered names may stand.

use super::*;
use crate::zone::check_steered;

/// The findings about a name, as text.
fn check(lines: &str, steered: &str, cname_possible: bool) -> String {
    show(&check_steered(&zone(lines), &name(steered), cname_possible))
}

#[test]
fn addresses_and_aliases_in_the_file_are_errors_with_their_place() {
    let found = check("shop A 192.0.2.1\nshop AAAA ::1\nshop TXT x", "Shop.e.", false);
    assert!(
        found.contains("test.zone:5:1: error: Shop.e. is steered, but the zone file has its A record too"),
        "{found}"
    );
    assert!(
        found.contains("test.zone:6:1: error: Shop.e. is steered, but the zone file has its AAAA record too"),
        "{found}"
    );
    assert!(!found.contains("TXT"), "{found}");
    assert!(check("shop CNAME x.", "shop.e.", false).contains("its CNAME record too"));
}

#[test]
fn hints_bypass_the_switch() {
    assert!(check("shop HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1", "shop.e.", false).contains("address hints"));
    assert!(check("shop SVCB 1 . ipv6hint=::1", "shop.e.", false).contains("address hints"));
    assert_eq!(check("shop HTTPS 1 . alpn=h2 port=443", "shop.e.", false), "");
}

#[test]
fn nothing_stands_beside_a_possible_cname() {
    assert!(check("shop TXT x", "shop.e.", true).contains("nothing can stand beside that"));
    assert_eq!(check("other TXT x", "shop.e.", true), "");
}

#[test]
fn the_apex_takes_addresses_only() {
    assert_eq!(check("", "e.", false), "");
    assert!(check("", "e.", true).contains("addresses only"));
    assert!(check("@ A 192.0.2.1", "e.", false).contains("its A record too"));
}

#[test]
fn not_outside_not_a_wildcard_not_below_a_cut_or_dname() {
    assert!(check("", "shop.f.", false).contains("does not lie in the zone"));
    assert!(check("", "*.e.", false).contains("wildcard"));
    assert!(check("a NS x.", "a.e.", false).contains("delegates"));
    assert!(check("a NS x.", "b.a.e.", false).contains("delegates"));
    assert!(check("a DNAME x.", "b.a.e.", false).contains("below the DNAME"));
    assert!(check("@ DNAME x.", "b.e.", false).contains("below the DNAME"));
    assert!(check("a DNAME x.", "a.e.", false).contains("warning"));
}
