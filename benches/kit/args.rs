//! The arguments of the benches: `--rounds N --seconds N --minutes N --json --test`, and names to choose from.

use std::time::Duration;

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Args {
    /// How often everything is measured.
    pub rounds: usize,
    /// How long each measurement takes.
    pub seconds: f64,
    /// How long a soak takes.
    pub minutes: f64,
    /// Print JSON instead of a table.
    pub json: bool,
    /// Only show that it works, in seconds.
    pub test: bool,
    /// What to measure; empty: everything.
    pub chosen: Vec<String>,
    /// Run as a server that sends back what it gets, on this port: the bench starts itself so.
    pub echo: Option<u16>,
}

impl Args {
    /// Reads them; says how they are written and ends when they are wrong.
    pub fn read(usage: &str) -> Args {
        let mut args = Args {
            rounds: 5,
            seconds: 2.0,
            minutes: 10.0,
            json: false,
            test: false,
            chosen: Vec::new(),
            echo: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || {
                words
                    .next()
                    .and_then(|word| word.parse::<f64>().ok())
                    .filter(|number| *number > 0.0)
            };
            let known = match word.as_str() {
                "--bench" => true, // cargo's own
                "--json" => set(&mut args.json, Some(true)),
                "--test" => set(&mut args.test, Some(true)),
                "--rounds" => set(&mut args.rounds, number().map(|number| number as usize)),
                "--seconds" => set(&mut args.seconds, number()),
                "--minutes" => set(&mut args.minutes, number()),
                "--echo" => set(&mut args.echo, number().map(|port| Some(port as u16))),
                chosen if !chosen.starts_with('-') => {
                    args.chosen.push(word);
                    true
                }
                _ => false,
            };
            if !known {
                eprintln!("{usage}");
                std::process::exit(2);
            }
        }
        if args.test {
            args.rounds = 1;
            args.seconds = args.seconds.min(0.2);
            args.minutes = args.minutes.min(0.06);
        }
        args
    }

    /// How long each measurement takes.
    pub fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Whether this one is to be measured.
    pub fn wants(&self, name: &str) -> bool {
        self.chosen.is_empty() || self.chosen.iter().any(|chosen| chosen == name)
    }

    /// Those of a group that are to be measured: the chosen ones, or all where none of them is chosen.
    pub fn of<'n>(&self, group: &'n [&'n str]) -> Vec<&'n str> {
        let chosen = |name: &&&str| self.chosen.iter().any(|chosen| chosen == **name);
        let any = group.iter().any(|name| chosen(&name));
        group.iter().filter(|name| !any || chosen(name)).copied().collect()
    }
}

/// Takes a value; false when there is none.
fn set<T>(place: &mut T, value: Option<T>) -> bool {
    value.map(|value| *place = value).is_some()
}
