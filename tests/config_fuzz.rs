//! Seeded smoke run of the config's fuzz body: random octets, and shipped configs with random damage.

use pointsman::config::fuzz::fuzz;
use proptest::prelude::*;

/// Pieces that TOML and the readers give a meaning to.
const PIECES: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    "\"\"\"",
    "\\",
    "\n",
    "\r\n",
    ",",
    ".",
    "#",
    "\0",
    "\u{feff}",
    "ü",
    "-",
    "0",
    "1",
    "inf",
    "nan",
    "0x7f",
    "99999999999999999999",
    "true",
    "1979-05-27",
    "[node]\n",
    "[[zone]]\n",
    "[app]\n",
    "[[app]]\n",
    "[app.shop]\n",
    "[[app.shop.probe]]\n",
    "app.shop = 1\n",
    "app.shop.ttl = \"5s\"\n",
    "kind = \"dns\"\n",
    "\"*.\"",
    "\"10s\"",
    "[]",
    "{}",
    "iad",
    "version = 2\n",
];

/// A shipped config with a zone behind it, as the fuzz body takes them.
fn shipped(which: usize) -> Vec<u8> {
    let configs = ["config/pointsman.toml", "config/minimal.toml", "config/policies.toml"];
    let mut text = std::fs::read(configs[which % configs.len()]).unwrap();
    text.push(0);
    text.extend(std::fs::read("zones/example.net.zone").unwrap());
    text
}

/// One piece of damage: where (as a share of the length), how much goes, what comes.
type Damage = (f64, usize, usize);

/// Applies damage to a text.
fn damage(mut text: Vec<u8>, all: &[Damage]) -> Vec<u8> {
    for (share, goes, comes) in all {
        let at = ((text.len() as f64) * share) as usize;
        let until = (at + goes).min(text.len());
        let piece = PIECES.get(*comes).copied().unwrap_or("");
        text.splice(at..until, piece.bytes());
    }
    text
}

#[test]
fn shipped_configs_keep_the_promises_undamaged() {
    (0..3).for_each(|which| fuzz(&shipped(which)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_octets_keep_the_promises(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz(&bytes);
    }

    #[test]
    fn random_pieces_keep_the_promises(pieces in prop::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = pieces.iter().map(|piece| PIECES[*piece]).collect();
        fuzz(text.as_bytes());
    }

    #[test]
    fn damaged_configs_keep_the_promises(which in 0..3usize, all in prop::collection::vec((0.0..1.0f64, 0..40usize, 0..PIECES.len() * 2), 1..8)) {
        fuzz(&damage(shipped(which), &all));
    }
}
