//! Reports the figures.

/// All measurements.
#[derive(Default)]
pub(super) struct Report {
    pub(super) memory: Vec<Memory>,
    /// One entry per round and connection mode; the bare server is the first of each.
    rounds: Vec<Vec<(Case, Figures)>>,
}

/// A server under a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// `None` for hyper alone.
    pub(super) machines: Option<u32>,
    pub(super) keeping: Keeping,
    /// Whether Assignments change meanwhile.
    pub(super) changes: bool,
}

/// How long a machine keeps a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    /// For all requests, as a load balancer does.
    Always,
    /// For one boot: the bootstrap, the script and a config.
    Boot,
    /// For one request, as iPXE does if it waits long between requests.
    Request,
}

/// The figures of one round, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// CPU time of the server's process per request.
    pub(super) cpu: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// The memory of one shaper, in bytes.
pub(super) struct Memory {
    pub(super) machines: u32,
    pub(super) resident: u64,
}

// === impl Keeping ===

impl Keeping {
    pub(super) const ALL: [Self; 3] = [Self::Always, Self::Boot, Self::Request];

    /// Returns the maximum number of requests on one connection.
    pub(super) fn requests(self) -> u32 {
        match self {
            Self::Always => u32::MAX,
            Self::Boot => 3,
            Self::Request => 1,
        }
    }

    /// Returns the approximate cost of a request relative to one on a kept connection.
    pub(super) fn cost(self) -> u32 {
        match self {
            Self::Always => 1,
            Self::Boot => 2,
            Self::Request => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Always => "kept",
            Self::Boot => "for three requests",
            Self::Request => "for one request",
        }
    }
}

// === impl Report ===

impl Report {
    pub(super) fn add(&mut self, round: Vec<(Case, Figures)>) {
        self.rounds.push(round);
    }

    pub(super) fn print(&self) {
        println!(
            "| Assignments | connections | changes | CPU us/request | hyper alone / shaper | p50 us | p99 us |"
        );
        println!("|---|---|---|---|---|---|---|");
        for case in self.cases() {
            let bare = Case {
                machines: None,
                changes: false,
                ..case
            };
            let name = case
                .machines
                .map_or_else(|| "hyper alone".to_owned(), |machines| machines.to_string());
            let changes = if case.changes { "yes" } else { "" };
            let [cpu, p50, p99] = [
                |f: &Figures| f.cpu,
                |f: &Figures| f.p50,
                |f: &Figures| f.p99,
            ]
            .map(|of| self.median(case, of));
            let share = self.ratio(bare, case, |figures| figures.cpu);
            println!(
                "| {name} | {} | {changes} | {cpu:.2} | {share:.2} | {p50:.0} | {p99:.0} |",
                case.keeping.name()
            );
        }
        println!();
        for memory in &self.memory {
            let (mebibytes, each) = (
                memory.resident >> 20,
                memory.resident / u64::from(memory.machines),
            );
            print!(
                "{} Assignments: {mebibytes} MiB resident, {each} bytes each",
                memory.machines
            );
            match self
                .memory
                .iter()
                .min_by_key(|memory| memory.machines)
                .filter(|least| least.machines < memory.machines)
            {
                Some(least) => {
                    let more = memory.resident.saturating_sub(least.resident)
                        / u64::from(memory.machines - least.machines);
                    println!("; {more} for each more than {}", least.machines);
                }
                None => println!(),
            }
        }
        println!();
        let machines = || self.memory.iter().map(|memory| memory.machines);
        let (Some(least), Some(most)) = (machines().min(), machines().max()) else {
            return;
        };
        for keeping in Keeping::ALL {
            let case = |machines, changes| Case {
                machines: Some(machines),
                keeping,
                changes,
            };
            let how = format!("connections {}", keeping.name());
            let growth = self.ratio(case(most, false), case(least, false), |figures| figures.cpu);
            println!("{how}: {growth:.2} of the CPU time at {most} that it takes at {least}");
            for machines in machines() {
                let slower = self.ratio(case(machines, true), case(machines, false), |figures| {
                    figures.p99
                });
                println!("{how}: {slower:.2} of the p99 under changes at {machines}");
            }
        }
    }

    /// Returns each case once, hyper alone first.
    fn cases(&self) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        for (case, _) in self.rounds.iter().flatten() {
            if !cases.contains(case) {
                cases.push(*case);
            }
        }
        cases
    }

    fn of(&self, case: Case) -> impl Iterator<Item = &Figures> {
        self.rounds
            .iter()
            .flatten()
            .filter(move |(other, _)| *other == case)
            .map(|(_, figures)| figures)
    }

    fn median(&self, case: Case, figure: fn(&Figures) -> f64) -> f64 {
        median(self.of(case).map(figure).collect())
    }

    /// Returns the median of the ratios of a figure between two cases, round by round.
    fn ratio(&self, of: Case, to: Case, figure: fn(&Figures) -> f64) -> f64 {
        median(
            self.of(of)
                .map(figure)
                .zip(self.of(to).map(figure))
                .map(|(of, to)| of / to)
                .collect(),
        )
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
