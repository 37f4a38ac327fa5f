//! Opens the folder: every check before the first change, and the first change is the incarnation.

use std::collections::VecDeque;
use std::path::Path;

use fail::fail_point;
use rocksdb::{ColumnFamilyDescriptor, DB, ReadOptions, WriteBatch};

use super::base::BASE_FAMILY;
use super::decision;
use super::files::Folder;
use super::layout;
use super::records::{self, EpochRecord, Folded, IdentityRecord, Marker, StepRecord};
use super::store::{Identity, Inner, Recovered, Store, durable};
use super::tuning::Tuning;
use crate::error::{Error, Result};
use crate::state::frame::Kind;
use crate::vocabulary::{Epoch, Incarnation};

/// All small records of a database.
#[derive(Debug, PartialEq, Eq)]
struct Loaded {
    identity: IdentityRecord,
    incarnation: Incarnation,
    steps: Vec<StepRecord>,
    folded: Folded,
    chain: VecDeque<EpochRecord>,
}

impl Store {
    /// Opens the state folder of a job, or makes it, with the default [`Tuning`]. Only one process can hold it.
    ///
    /// # Errors
    /// [`ErrorKind::State`](crate::ErrorKind::State), naming the folder: it cannot be created or locked, another process
    /// uses it, it belongs to another job or a newer version, it is damaged, or it lost epochs. Nothing is changed then.
    pub fn open(dir: &Path, identity: &Identity) -> Result<(Self, Recovered)> {
        Self::open_with(dir, identity, &Tuning::default())
    }

    /// As [`open`](Self::open), with other sizes.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(dir: &Path, identity: &Identity, tuning: &Tuning) -> Result<(Self, Recovered)> {
        open(dir, identity, tuning).map_err(|error| {
            let message = format!("could not open the state folder \"{}\"", dir.display());
            Error::new(error.kind(), message).caused_by(error)
        })
    }
}

fn open(dir: &Path, wanted: &Identity, tuning: &Tuning) -> Result<(Store, Recovered)> {
    if wanted.key_groups == 0 {
        return Err(Error::config("a job needs at least one key group"));
    }
    let (folder, lock) = Folder::lock(dir)?;
    let new = folder.claim(&wanted.job)?;
    fail_point!("open::after-claim");
    match open_claimed(&folder, wanted, tuning) {
        Ok((db, inner, recovered)) => {
            let made = new.then_some(folder);
            Ok((Store::new(db, inner, *tuning, made, lock), recovered))
        }
        Err(error) => {
            if new {
                folder.take_back();
            }
            Err(error)
        }
    }
}

fn open_claimed(folder: &Folder, wanted: &Identity, tuning: &Tuning) -> Result<(DB, Inner, Recovered)> {
    let witness = folder.witness()?;
    let path = folder.database();
    if !path.exists() {
        decision::may_resume(None, &witness, &folder.accepted())?;
        create(folder, wanted, tuning)?;
    }
    // Opening it for writing throws away what follows a damaged log record, so it is looked at before.
    let options = tuning.options(false)?;
    let seen = {
        let db = DB::open_for_read_only(&options, &path, false).map_err(unreadable)?;
        load(&db, &wanted.job)?
    };
    let committed = seen.chain.back().map(|record| record.epoch);
    decision::may_resume(committed, &witness, &folder.accepted())?;

    // By its family, which reading many keys at once asks for.
    let family = ColumnFamilyDescriptor::new(BASE_FAMILY, tuning.options(false)?);
    let db = DB::open_cf_descriptors(&options, &path, [family]).map_err(unreadable)?;
    let mut loaded = load(&db, &wanted.job)?;
    if loaded != seen {
        return Err(Error::state("it is damaged, a second look at it showed other contents"));
    }
    fail_point!("open::before-incarnation");
    let last = loaded.incarnation.max(witness.incarnation());
    loaded.incarnation = Incarnation::new(last.number().saturating_add(1));
    let mut batch = WriteBatch::default();
    batch.put(layout::INCARNATION, records::seal(Kind::Incarnation, &loaded.incarnation)?);
    db.write_opt(batch, &durable()).map_err(unreadable)?;
    fail_point!("open::after-incarnation");
    let marker = folder.marker(Marker { epoch: committed, incarnation: loaded.incarnation })?;
    fail_point!("open::after-marker");

    let recovered = recovered(&loaded);
    let inner = Inner { chain: loaded.chain, steps: loaded.steps, folded: loaded.folded, marker, failed: false };
    Ok((db, inner, recovered))
}

fn recovered(loaded: &Loaded) -> Recovered {
    let head = loaded.chain.back();
    Recovered {
        committed: head.map(|record| record.epoch),
        incarnation: loaded.incarnation,
        key_groups: loaded.identity.key_groups,
        secret: loaded.identity.secret,
        steps: loaded.steps.iter().filter(|step| !step.dropped).map(|step| step.info.clone()).collect(),
        handles: decision::to_commit_again(head.map_or(&[], |record| &record.handles)),
    }
}

/// Makes the database under another name and moves it to its place when it is whole.
fn create(folder: &Folder, wanted: &Identity, tuning: &Tuning) -> Result<()> {
    let unfinished = folder.unfinished();
    let failed = |error: std::io::Error| Error::state("its database cannot be created").caused_by(error);
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(failed)?;
    }
    let identity =
        IdentityRecord { job: wanted.job.clone(), key_groups: wanted.key_groups, secret: rand::random::<[u8; 16]>() };
    let mut batch = WriteBatch::default();
    batch.put(layout::IDENTITY, records::seal(Kind::Identity, &identity)?);
    batch.put(layout::INCARNATION, records::seal(Kind::Incarnation, &Incarnation::default())?);
    batch.put(layout::STEPS, records::seal(Kind::Steps, &Vec::<StepRecord>::new())?);
    batch.put(layout::FOLDED, records::seal(Kind::Folded, &Folded { through: None })?);
    let db = DB::open(&tuning.options(true)?, &unfinished).map_err(unreadable)?;
    db.write_opt(batch, &durable()).map_err(unreadable)?;
    drop(db);
    fail_point!("open::before-create");
    std::fs::rename(&unfinished, folder.database()).map_err(failed)?;
    folder.sync().map_err(failed)?;
    fail_point!("open::after-create");
    Ok(())
}

fn unreadable(error: rocksdb::Error) -> Error {
    Error::state("its database cannot be opened").caused_by(error)
}

fn load(db: &DB, job: &str) -> Result<Loaded> {
    let loaded = Loaded {
        identity: record(db, Kind::Identity, layout::IDENTITY)?,
        incarnation: record(db, Kind::Incarnation, layout::INCARNATION)?,
        steps: record(db, Kind::Steps, layout::STEPS)?,
        folded: record(db, Kind::Folded, layout::FOLDED)?,
        chain: chain(db)?,
    };
    check_files(db, loaded.chain.back().map(|record| record.epoch))?;
    let epochs: Vec<_> = loaded.chain.iter().cloned().collect();
    decision::check_chain(&loaded.identity, job, &loaded.steps, loaded.folded, &epochs)?;
    Ok(loaded)
}

/// Whether the base has the last file that a fold gave to it, and none that goes further than the epochs: such files are in no
/// log, so each can be lost without the other. Folders of a build before such files have neither.
fn check_files(db: &DB, last: Option<Epoch>) -> Result<()> {
    let through = |key: &[u8]| -> Result<Option<Epoch>> {
        let Some(bytes) = db.get_pinned(key).map_err(unreadable)? else { return Ok(None) };
        Ok(records::unseal::<Folded>(Kind::Folded, &bytes)?.through)
    };
    let (recorded, file) = (through(layout::FILED)?, through(layout::FILE_MARK)?);
    // A crash between a file and its record leaves the file ahead.
    if file < recorded {
        return Err(Error::state("it is damaged, part of its base is missing"));
    }
    // A fold leaves the newest epoch alone.
    if file.is_some() && file >= last {
        return Err(Error::state("it is damaged, epochs are lost that its base has in part"));
    }
    Ok(())
}

fn record<T: serde::de::DeserializeOwned>(db: &DB, kind: Kind, key: &[u8]) -> Result<T> {
    let bytes = db.get_pinned(key).map_err(unreadable)?;
    let bytes = bytes.ok_or_else(|| Error::state(format!("it is damaged, a {kind} is missing")))?;
    records::unseal(kind, &bytes)
}

/// The records of all epochs that are not folded. Jumps from one to the next, over their changelogs.
fn chain(db: &DB) -> Result<VecDeque<EpochRecord>> {
    let mut reading = ReadOptions::default();
    reading.set_iterate_upper_bound(layout::EPOCHS.1);
    let mut chain = VecDeque::<EpochRecord>::new();
    let mut iterator = db.raw_iterator_opt(reading);
    iterator.seek(layout::EPOCHS.0);
    while let Some((key, value)) = iterator.item() {
        let record: EpochRecord = records::unseal(Kind::Epoch, value)
            .map_err(|error| Error::state("it is damaged, an epoch record cannot be read").caused_by(error))?;
        if key != layout::epoch(record.epoch) || record.epoch == Epoch::new(u64::MAX) {
            return Err(Error::state(format!("it is damaged, the record of epoch {} lies elsewhere", record.epoch)));
        }
        iterator.seek(layout::epoch(record.epoch.next()));
        chain.push_back(record);
    }
    iterator.status().map_err(unreadable)?;
    Ok(chain)
}
