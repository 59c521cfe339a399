//! The lists of addresses that peers must not have: read beside the session, as their files may be large or on a disk that does not answer.
//!
//! Invariant: what a list forbids holds until it was read again or a person removes it. One that cannot be read at present lets nobody in
//! whom it kept out before.

use super::{Answer, Heard, NodeError, Session, unix_now};
use crate::message::{AddressList, BadLine, FilterRequest, Forbidden, Reply, TestedAddress};
use shoal_engine::{AddressFilter, EngineHandle};
use shoal_session::filter::{
    IpFilter, IpFilterBuilder, ListReport, MAX_V4_RANGES, MAX_V6_RANGES, Which,
};
use shoal_store::{Database, StoreError};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// What they are called in the database.
const KIND: &str = "filter";

/// More lists than a person finds.
const MAX_LISTS: usize = 64;

/// The largest lists in use have some 50 MB.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// All lists together have no more, as one has.
const MAX_RANGES: usize = MAX_V4_RANGES + MAX_V6_RANGES;

/// How much of a file is in memory.
const CHUNK_BYTES: usize = 64 * 1024;

/// How soon a disk answers.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// How often is looked whether a file has changed: one call of the system for each.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A request, and where the answer goes.
pub(super) type Asked = (FilterRequest, oneshot::Sender<Answer>);

impl Session {
    /// Whoever keeps the lists answers.
    pub(super) fn filter(&self, request: FilterRequest) -> Heard {
        let keeper = self.filter.clone();
        Heard::Later(Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let asked = keeper.send((request, answer)).await;
            asked.map_err(|_| NodeError::Stopped)?;
            answered.await.map_err(|_| NodeError::Stopped)?
        }))
    }
}

/// How a file looks: its size and when it was changed.
type Stamp = (u64, Option<SystemTime>);

/// What was read of a file.
type Contents = (IpFilter, ListReport, Stamp);

/// A list, as it was last read.
#[derive(Clone, Default)]
struct List {
    filter: Arc<IpFilter>,
    report: ListReport,
    stamp: Option<Stamp>,
    read_at: Option<i64>,
    trouble: Option<String>,
}

/// The owner of all lists.
pub(super) struct Lists {
    database: Database,
    engine: EngineHandle,
    lists: BTreeMap<String, List>,
}

impl Lists {
    /// Those of the database, of which none is read yet.
    pub(super) async fn of(database: Database, engine: EngineHandle) -> Result<Self, StoreError> {
        let stored = database.entries(KIND).await?;
        let lists = stored.into_keys().map(|path| (path, List::default()));
        Ok(Lists {
            lists: lists.collect(),
            database,
            engine,
        })
    }

    /// Answers until nobody can ask any more.
    pub(super) async fn keep(mut self, mut asked: mpsc::Receiver<Asked>) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                asked = asked.recv() => {
                    let Some((request, answer)) = asked else { return };
                    let answered = self.hear(request).await;
                    // Whoever asked may have gone.
                    drop(answer.send(answered));
                }
                _ = look.tick(), if !self.lists.is_empty() => self.read_changed().await,
            }
        }
    }

    async fn hear(&mut self, request: FilterRequest) -> Answer {
        match request {
            FilterRequest::List {} => {}
            FilterRequest::Add { path } => self.add(path).await?,
            FilterRequest::Remove { paths } => self.remove(&paths).await?,
            FilterRequest::Reload {} => self.read_all().await,
            FilterRequest::Test { address } => return Ok(self.test(address)),
        }
        let lists = self.lists.iter().map(|(path, list)| list.shown(path));
        let lists = lists.collect();
        Ok(Reply::AddressLists { lists })
    }

    async fn add(&mut self, path: String) -> Result<(), NodeError> {
        if !Path::new(&path).is_absolute() {
            let what = format!(
                "write {path:?} from the root, as the node has a current folder of its own"
            );
            return Err(NodeError::Usage(what));
        }
        if self.lists.len() >= MAX_LISTS && !self.lists.contains_key(&path) {
            let what = format!("there are {MAX_LISTS} lists already; put several into one file");
            return Err(NodeError::Refused(what));
        }
        let read = self.read(&path).await.map_err(NodeError::Refused)?;
        let report = &read.1;
        if let (0, 0, Some(first)) = (report.ranges, report.let_pass, report.first_bad.first()) {
            let (line, why) = (first.line, first.why);
            let what = format!("{path} is no list of addresses: line {line}: {why}");
            return Err(NodeError::Refused(what));
        }
        self.database.set_entry(KIND, &path, Some("{}")).await?;
        self.lists.insert(path, List::new(read));
        self.apply().await
    }

    async fn remove(&mut self, paths: &[String]) -> Result<(), NodeError> {
        if let Some(path) = paths.iter().find(|path| !self.lists.contains_key(*path)) {
            let what = format!("there is no list {path:?}; `shoal filter` shows what there is");
            return Err(NodeError::Absent(what));
        }
        for path in paths {
            self.database.set_entry(KIND, path, None).await?;
            self.lists.remove(path);
        }
        self.apply().await
    }

    /// All of them, whether or not they have changed.
    pub(super) async fn read_all(&mut self) {
        let paths: Vec<String> = self.lists.keys().cloned().collect();
        self.read_again(paths).await;
    }

    async fn read_changed(&mut self) {
        let known = self.lists.iter();
        let known: Vec<(String, Option<Stamp>)> = known
            .map(|(path, list)| (path.clone(), list.stamp))
            .collect();
        let looking = tokio::task::spawn_blocking(move || {
            let changed = |(path, stamp): (String, Option<Stamp>)| {
                let there = Path::new(&path).metadata().ok().map(|found| look(&found));
                (there != stamp).then_some(path)
            };
            known
                .into_iter()
                .filter_map(changed)
                .collect::<Vec<String>>()
        });
        // A disk that does not answer now is looked at another time.
        if let Ok(Ok(changed)) = timeout(READ_WITHIN, looking).await {
            self.read_again(changed).await;
        }
    }

    async fn read_again(&mut self, paths: Vec<String>) {
        let mut is_new = false;
        for path in paths {
            let read = self.read(&path).await;
            let Some(list) = self.lists.get_mut(&path) else {
                continue;
            };
            match read {
                Ok(read) => {
                    tracing::info!(%path, ranges = read.1.ranges, bad = read.1.bad, "an address list was read");
                    *list = List::new(read);
                    is_new = true;
                }
                Err(why) => {
                    if list.trouble.as_ref() != Some(&why) {
                        tracing::warn!(%why, "an address list cannot be read; what it said before holds");
                    }
                    list.trouble = Some(why);
                    list.stamp = None;
                }
            }
        }
        if is_new && let Err(error) = self.apply().await {
            tracing::warn!(%error, "address lists do not hold");
        }
    }

    async fn read(&self, path: &str) -> Result<Contents, String> {
        let file = path.to_owned();
        let reading = tokio::task::spawn_blocking(move || read(Path::new(&file)));
        let cannot = |why: &str| format!("cannot read the address list {path}: {why}");
        let read = match timeout(READ_WITHIN, reading).await {
            Ok(Ok(read)) => read.map_err(|error| cannot(&error.to_string()))?,
            Ok(Err(_)) => return Err(cannot("the node is stopping")),
            Err(_) => return Err(cannot("its disk does not answer; try again later")),
        };
        let others = self.lists.iter().filter(|(other, _)| *other != path);
        let others: usize = others.map(|(_, list)| list.filter.len()).sum();
        if others.saturating_add(read.0.len()) > MAX_RANGES {
            let why =
                format!("there are more than {MAX_RANGES} ranges then; remove another list first");
            return Err(cannot(&why));
        }
        Ok(read)
    }

    /// They hold from here on, for those who are connected too.
    async fn apply(&self) -> Result<(), NodeError> {
        let filters = self.lists.values().map(|list| Arc::clone(&list.filter));
        let filters: Vec<Arc<IpFilter>> = filters.filter(|filter| !filter.is_empty()).collect();
        let filter = (!filters.is_empty()).then(|| {
            let allows = move |address: IpAddr| filters.iter().all(|filter| filter.allows(address));
            Arc::new(allows) as AddressFilter
        });
        let set = self.engine.set_filter(filter).await;
        set.map_err(|_| NodeError::Stopped)
    }

    fn test(&self, address: IpAddr) -> Reply {
        let mut lists = self.lists.iter();
        let which = lists.find_map(|(path, list)| Some((path, list.filter.which(address)?)));
        let forbidden = |(path, which): (&String, Which)| Forbidden {
            path: path.clone(),
            line: which.line,
            first: which.first,
            last: which.last,
        };
        Reply::Address(TestedAddress {
            address,
            forbidden: which.map(forbidden),
        })
    }
}

impl List {
    fn new((filter, report, stamp): Contents) -> Self {
        List {
            filter: Arc::new(filter),
            report,
            stamp: Some(stamp),
            read_at: Some(unix_now()),
            trouble: None,
        }
    }

    fn shown(&self, path: &str) -> AddressList {
        let bad = self.report.first_bad.iter().map(|bad| BadLine {
            line: bad.line,
            why: bad.why.to_string(),
        });
        AddressList {
            path: path.to_owned(),
            ranges: self.report.ranges,
            let_pass: self.report.let_pass,
            bad: self.report.bad,
            first_bad: bad.collect(),
            left_out: self.report.left_out,
            read_at: self.read_at,
            message: self.trouble.clone(),
        }
    }
}

fn look(found: &Metadata) -> Stamp {
    (found.len(), found.modified().ok())
}

/// A file that is something else, such as a pipe, is not even opened.
fn read(path: &Path) -> io::Result<Contents> {
    let refused = |why: &str| Err(io::Error::other(why.to_owned()));
    if !path.metadata()?.is_file() {
        return refused("it is no file");
    }
    let mut file = File::open(path)?;
    let stamp = look(&file.metadata()?);
    if stamp.0 > MAX_LIST_BYTES {
        return refused("it is larger than 256 MiB");
    }
    let mut builder = IpFilterBuilder::new();
    let mut list = builder.list().map_err(io::Error::other)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = MAX_LIST_BYTES;
    loop {
        let count = match file.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        if count == 0 {
            break;
        }
        // It grows while it is read.
        left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        if left == 0 {
            return refused("it is larger than 256 MiB");
        }
        list.feed(&chunk[..count]);
    }
    let report = list.finish();
    Ok((builder.build(), report, stamp))
}
