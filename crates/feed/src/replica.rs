//! The half of an API replica or a webhook: a catalog like that of the controllers, kept while they are away.

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

/// Most objects that are not accepted and named one by one.
const MAX_NAMED: usize = 20;

/// Follows the controllers of one partition or of several, and keeps the union of what they have.
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

/// The sources don't go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSources {
    /// There are none.
    #[error("name at least one controller")]
    None,
    /// Some have the name of a partition and some have none.
    #[error("name the partition of every controller or of none: {0} has none")]
    Mixed(String),
}

/// There is no such partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no partition {0:?}; there are: {1}")]
pub struct UnknownPartition(String, String);

impl Replica {
    /// Sources of the same partition are controllers of the same cluster, of which one is followed; different partitions are all
    /// followed. What they hold is published in `shared`.
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

    /// Takes what is on disk of former times.
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
                        warn!(partition = %shown, file = %path, "the copy on disk does not hold what it says; it is ignored");
                        continue;
                    }
                    state.restored(restored.position, restored.age);
                    drop(state);
                    info!(partition = %shown, file = %path, objects, age_s = restored.age.as_secs(), "the copy on disk is served until a controller is heard");
                    partition.link.notify_loaded();
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(partition = %shown, file = %path, %error, "the copy on disk is ignored");
                }
            }
        }
    }

    /// Waits until there is a whole snapshot of every partition, or a copy of one.
    pub async fn loaded(&self) {
        for partition in self.partitions.values() {
            partition.link.loaded().await;
        }
    }

    /// Follows until `stop`. A peer must have one of these names; if there are none, the one by which it is called.
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
                // Whatever ends one of them ends the process: machines would boot what was true long ago.
                stop.cancel();
            }
        }
    }

    /// Every host of the sources: who may answer, where nobody said otherwise.
    pub fn hosts(&self) -> Vec<PeerName> {
        self.partitions
            .values()
            .flat_map(|partition| &partition.sources)
            .map(|source| source.peer.clone())
            .collect()
    }

    /// Brings those metrics up to date that depend on the time.
    pub fn refresh_metrics(&self) {
        for partition in self.partitions.values() {
            let (metrics, state) = (partition.link.metrics(), lock(partition.link.state()));
            // Nothing is known yet: older than any limit of an alert.
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
        self.metrics.cross_partition_conflicts.set(gauge(
            self.merged_catalog.cross_partition_conflicts().count(),
        ));
    }

    /// How each partition is, in sentences; first those that something is the matter with.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = self.warnings();
        remarks.extend(
            self.merged_catalog
                .shared()
                .load()
                .describe_rejected(MAX_NAMED),
        );
        remarks.extend(
            self.merged_catalog
                .cross_partition_conflicts()
                .describe(MAX_NAMED),
        );
        for (name, partition) in &self.partitions {
            if partition.link.metrics().unsaved.get() == 1 {
                let sentence = "its copy can't be written to --state-dir; a start without a controller would serve an older one";
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

    /// How long ago everything that is held was last known to be true, by the partition that was heard the longest ago.
    pub fn age(&self) -> Option<Duration> {
        self.partitions
            .values()
            .filter_map(|partition| lock(partition.link.state()).age())
            .max()
    }

    /// What an operator should know before believing an answer: partitions that are away, what the guard holds, what can't be used.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, partition) in &self.partitions {
            let display_name = partition_name(name);
            let status = partition.link.status();
            let state = lock(partition.link.state());
            if status.following.is_none() {
                let since = format_duration(Some(status.since.elapsed()));
                let served = match state.age() {
                    Some(age) => format!("served as it was {} ago", format_duration(Some(age))),
                    None => "nothing of it is known yet".to_owned(),
                };
                warnings.push(format!(
                    "{display_name}: away for {since}, {served} ({})",
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
                    "{display_name}: the guard keeps {} of {} objects that the last snapshots lack; if they are meant to be gone, POST /guard/confirm{query} to this port",
                    hold.lost.len(),
                    hold.known
                ));
            }
            warnings.extend(
                state
                    .incompatible()
                    .iter()
                    .map(|(name, reason)| format!("{name} can't be used here: {reason}")),
            );
        }
        warnings
    }

    /// An operator says that what the guard holds of a partition, or of all, is gone indeed. Tells how many objects that were.
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
