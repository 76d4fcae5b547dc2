//! The replica's half of the feed: a catalog that follows the controllers and stays in use while
//! they are unreachable.

mod copy;
mod cross_partition_conflicts;
mod dial;
mod incoming;
mod link;
mod merged_catalog;
mod metrics;
mod save;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use boot::SharedCatalog;
use boot::catalog::guard::Limits;
use tls::{MutualTls, PeerName, Reloader};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::source::Source;

use copy::DiskCopy;
use dial::Network;
use link::Link;
use merged_catalog::{MergedCatalog, PartitionState, lock};
use metrics::gauge;

pub use metrics::ReplicaMetrics;

/// How many objects [`Replica::remarks`] lists by name.
const MAX_NAMED: usize = 20;

/// Follows the controllers of one or several partitions and merges their catalogs into one.
pub struct Replica {
    partitions: BTreeMap<Box<str>, Partition>,
    merged_catalog: Arc<MergedCatalog>,
    metrics: ReplicaMetrics,
}

struct Partition {
    sources: Vec<Source>,
    link: Arc<Link>,
    copy: Option<DiskCopy>,
}

/// Sources that can't be used together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSources {
    /// There are no sources.
    #[error("name at least one controller")]
    None,
    /// Some sources name a partition and others don't.
    #[error("name the partition of every controller or of none: {0} has none")]
    Mixed(String),
}

/// No partition has this name. Holds the name and a list of those that exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no partition {0:?}; known partitions: {1}")]
pub struct UnknownPartition(String, String);

impl Replica {
    /// Creates a replica that publishes the merged catalog in `shared`.
    ///
    /// Sources of one partition are controllers of the same cluster, of which one at a time is
    /// followed. All partitions are followed. With `state_dir`, a copy of each partition is kept on
    /// disk.
    pub fn new(
        sources: Vec<Source>,
        guard: Limits,
        state_dir: Option<PathBuf>,
        shared: Arc<SharedCatalog>,
        metrics: ReplicaMetrics,
    ) -> Result<Self, InvalidSources> {
        let mut by_partition = BTreeMap::<Box<str>, Vec<Source>>::new();
        for source in sources {
            by_partition
                .entry(source.partition.clone())
                .or_default()
                .push(source);
        }
        match by_partition.get("") {
            None if by_partition.is_empty() => return Err(InvalidSources::None),
            Some(unnamed) if by_partition.len() > 1 => {
                return Err(InvalidSources::Mixed(unnamed[0].to_string()));
            }
            _ => {}
        }
        let merged_catalog = Arc::new(MergedCatalog::new(shared, by_partition.len()));
        let partition = |(name, sources): (Box<str>, Vec<Source>)| {
            let link = Arc::new(Link::new(
                merged_catalog.clone(),
                PartitionState::new(&name, guard),
                metrics.partition(&name),
            ));
            let copy = state_dir
                .as_ref()
                .map(|directory| DiskCopy::new(directory, &name));
            (
                name,
                Partition {
                    sources,
                    link,
                    copy,
                },
            )
        };
        let partitions = by_partition.into_iter().map(partition).collect();
        Ok(Self {
            partitions,
            merged_catalog,
            metrics,
        })
    }

    /// Loads the copies on disk that an earlier process wrote.
    pub fn restore(&self) {
        for (name, partition) in &self.partitions {
            let Some(copy) = &partition.copy else {
                continue;
            };
            let (shown, path) = (name, copy.path().display());
            match copy.read() {
                Ok(Some(restored)) => {
                    let objects = restored.batch.changes.len();
                    let mut state = lock(partition.link.state());
                    if self
                        .merged_catalog
                        .apply(&mut state, restored.batch)
                        .is_err()
                    {
                        warn!(partition = %shown, file = %path, "the copy on disk does not match its inventory; ignoring it");
                        continue;
                    }
                    state.restored(restored.position, restored.age);
                    drop(state);
                    info!(partition = %shown, file = %path, objects, age_s = restored.age.as_secs(), "serving the copy on disk until a controller responds");
                    partition.link.notify_loaded();
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(partition = %shown, file = %path, %error, "ignoring the copy on disk");
                }
            }
        }
    }

    /// Waits until every partition has a complete snapshot or a copy of one.
    pub async fn loaded(&self) {
        for partition in self.partitions.values() {
            partition.link.loaded().await;
        }
    }

    /// Follows until `stop`. Each controller's certificate must carry one of `names`, or the host
    /// of its URL if `names` is `None`.
    pub async fn run(
        &self,
        tls: Arc<Reloader<MutualTls>>,
        names: Option<Vec<PeerName>>,
        stop: CancellationToken,
    ) {
        let mut tasks = JoinSet::new();
        for partition in self.partitions.values() {
            let network = Network::new(
                partition.sources.clone(),
                tls.clone(),
                names.clone(),
                partition.link.metrics().received.clone(),
            );
            let (link, token) = (partition.link.clone(), stop.clone());
            tasks.spawn(async move { Box::pin(link.run(network, token)).await });
            if let Some(copy) = partition.copy.clone() {
                tasks.spawn(save::run(copy, partition.link.clone(), stop.clone()));
            }
        }
        while let Some(ended) = tasks.join_next().await {
            if ended.is_err() {
                // A failed task ends the process: otherwise machines would boot from an outdated
                // catalog.
                stop.cancel();
            }
        }
    }

    /// The hosts of all sources, which are the accepted peer names by default.
    pub fn hosts(&self) -> Vec<PeerName> {
        self.partitions
            .values()
            .flat_map(|partition| &partition.sources)
            .map(|source| source.peer.clone())
            .collect()
    }

    /// Updates the metrics that depend on the current time.
    pub fn refresh_metrics(&self) {
        for partition in self.partitions.values() {
            let (metrics, state) = (partition.link.metrics(), lock(partition.link.state()));
            // Nothing is known yet: report an age above the threshold of any alert.
            metrics
                .age
                .set(state.age().map_or(f64::INFINITY, |age| age.as_secs_f64()));
            metrics
                .revision
                .set(gauge(state.position().unwrap_or_default().revision));
            metrics.guard.set(i64::from(state.held() > 0));
            metrics.held.set(gauge(state.held()));
            metrics.incompatible.set(gauge(state.incompatible().len()));
            let (rejected, kept) = state.rejected_counts();
            metrics.rejected.set(gauge(rejected));
            metrics.kept.set(gauge(kept));
        }
        let catalog = self.merged_catalog.shared().load();
        self.metrics
            .set_objects("Assignment", catalog.assignment_count());
        self.metrics.set_objects("Profile", catalog.profile_count());
        self.metrics.set_objects("Machine", catalog.machine_count());
        self.metrics
            .duplicate_ids
            .set(gauge(catalog.duplicate_id_count()));
        self.metrics.cross_partition_conflicts.set(gauge(
            self.merged_catalog.cross_partition_conflicts().count(),
        ));
    }

    /// Describes the state of each partition in sentences, with warnings first.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = self.warnings();
        let catalog = self.merged_catalog.shared().load();
        remarks.extend(catalog.describe_rejected(MAX_NAMED));
        remarks.extend(catalog.describe_duplicate_ids(MAX_NAMED));
        remarks.extend(
            self.merged_catalog
                .cross_partition_conflicts()
                .describe(MAX_NAMED),
        );
        for (name, partition) in &self.partitions {
            if partition.link.metrics().unsaved.get() == 1 {
                let sentence = "the copy in --state-dir can't be written; a restart without a controller would serve an older one";
                remarks.push(format!("{}: {sentence}", partition_name(name)));
            }
            let status = partition.link.status();
            if let Some(controller) = status.following {
                let (age, since) = (
                    format_duration(lock(partition.link.state()).age()),
                    format_duration(Some(status.since.elapsed())),
                );
                remarks.push(format!(
                    "{}: following {controller} for {since}, as of {age} ago",
                    partition_name(name)
                ));
            }
        }
        remarks
    }

    /// The age of the data: how long ago the partition that was heard least recently was last
    /// confirmed.
    pub fn age(&self) -> Option<Duration> {
        self.partitions
            .values()
            .filter_map(|partition| lock(partition.link.state()).age())
            .max()
    }

    /// What an operator should know before trusting an answer: unreachable partitions, objects that
    /// the guard holds, and objects that can't be used.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, partition) in &self.partitions {
            let display_name = partition_name(name);
            let status = partition.link.status();
            let state = lock(partition.link.state());
            if status.following.is_none() {
                let since = format_duration(Some(status.since.elapsed()));
                let served = match state.age() {
                    Some(age) => format!("serving its state of {} ago", format_duration(Some(age))),
                    None => "no data yet".to_owned(),
                };
                warnings.push(format!(
                    "{display_name}: disconnected for {since}, {served} ({})",
                    status.last_error
                ));
            }
            if let Some(hold) = state.guard().holding() {
                let query = if name.is_empty() {
                    String::new()
                } else {
                    format!("?partition={name}")
                };
                warnings.push(format!(
                    "{display_name}: the guard keeps {} of {} objects that are missing from the last snapshot; if they were deleted on purpose, POST /guard/confirm{query} with the header X-Shaper-Request: 1 to this port",
                    hold.lost.len(),
                    hold.known
                ));
            }
            warnings.extend(
                state
                    .incompatible()
                    .iter()
                    .map(|(name, reason)| format!("this version can't use {name}: {reason}")),
            );
        }
        warnings
    }

    /// Confirms that the objects held by the guard, in one partition or in all, have been deleted.
    /// Returns how many were removed.
    pub fn confirm(&self, partition: Option<&str>) -> Result<usize, UnknownPartition> {
        let names = || {
            self.partitions
                .keys()
                .map(AsRef::as_ref)
                .collect::<Vec<&str>>()
                .join(", ")
        };
        let chosen: Vec<_> = match partition {
            None => self.partitions.values().collect(),
            Some(name) => vec![
                self.partitions
                    .get(name)
                    .ok_or_else(|| UnknownPartition(name.to_owned(), names()))?,
            ],
        };
        let confirm = |partition: &Partition| {
            let count = self
                .merged_catalog
                .confirm(&mut lock(partition.link.state()));
            partition.link.changed.notify_one();
            count
        };
        Ok(chosen.into_iter().map(confirm).sum())
    }
}

fn partition_name(name: &str) -> String {
    if name.is_empty() {
        "the feed".to_owned()
    } else {
        format!("partition {name}")
    }
}

fn format_duration(duration: Option<Duration>) -> String {
    match duration.map(|duration| duration.as_secs()) {
        None => "an unknown time".to_owned(),
        Some(seconds) if seconds < 120 => format!("{seconds} s"),
        Some(seconds) if seconds < 7200 => format!("{} min", seconds / 60),
        Some(seconds) => format!("{} h", seconds / 3600),
    }
}
