//! What a start finds out about the store, before anything is shipped: whether it refuses a second object of one name, put
//! whole or in parts, whether it keeps metadata, and whether it holds output that this state does not know of.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{Attribute, Attributes, Error as StoreError, MultipartId, PutMode, PutOptions, PutPayload};
use shardflow::metrics::RetryMetrics;
use shardflow::retry::{Failed, Retries, WallClock};
use shardflow::sink::Trouble;
use shardflow::{Epoch, Error, Result};
use tracing::{info, warn};

use super::bucket::{Bucket, is_taken};
use super::failure::{failed, fatal, passing, trouble};
use super::keys::Keys;
use super::leftovers;
use super::settings::Absent;
use super::target::Leftovers;

/// What the probe learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refuses {
    /// It refuses a second object of one name.
    Yes,
    /// It takes it, and says nothing.
    Ignores,
    /// It says that it cannot tell.
    Cannot,
}

/// Learns what the store does, by writing one small object twice.
///
/// # Errors
/// The store cannot be reached or refuses, or does not do what is asked of it.
pub(super) async fn probe(
    bucket: &mut Bucket,
    keys: &Keys,
    absent: Absent,
    completing: Option<Arc<dyn MultipartStore>>,
) -> Result<()> {
    let attempted = format!("write to \"{}\"", bucket.place);
    bucket.describes = describes(bucket, keys, &attempted).await?;
    let found = twice(bucket, keys, &attempted).await?;
    bucket.refuses = found == Refuses::Yes;
    if let Some(completing) = completing.filter(|_| bucket.refuses) {
        let found = completed(bucket, completing.as_ref(), keys, &attempted).await?;
        bucket.completes_where_absent = found == Refuses::Yes;
        if bucket.completes_where_absent {
            bucket.multipart = Some(completing);
        } else {
            let place = bucket.place.as_str();
            warn!(
                place,
                "the store completes an upload in parts where there is an object of its name: such names are looked at before"
            );
        }
    }
    let place = bucket.place.as_str();
    match (found, absent) {
        (Refuses::Yes, _) => Ok(()),
        (Refuses::Ignores, Absent::Required) => Err(Error::config(format!(
            "could not use \"{place}\": it takes a second object of one name where it is asked to refuse it, so a job that should \
             have ended could write over this one's output unnoticed; without_put_if_absent goes on without"
        ))),
        (Refuses::Cannot, Absent::Required) => Err(Error::config(format!(
            "could not use \"{place}\": it cannot refuse a second object of one name (put-if-absent); without_put_if_absent goes \
             on without"
        ))),
        (_, Absent::Looked) => {
            warn!(
                place,
                "the store does not refuse a second object of one name: names are looked at before they are written"
            );
            Ok(())
        }
    }
}

/// At a start, what a token that ran out would look like is a wrong setting.
fn at_start(error: &StoreError) -> Trouble {
    let trouble = trouble(error);
    let may_pass = trouble.may_pass.filter(|failed| *failed != Failed::Credentials);
    Trouble { may_pass, ..trouble }
}

fn is_unsupported(error: &StoreError) -> bool {
    matches!(error, StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })
}

/// Whether it keeps metadata: a disk does not.
async fn describes(bucket: &Bucket, keys: &Keys, attempted: &str) -> Result<bool> {
    let path = keys.probe();
    let retries = bucket.retries(&RetryMetrics::unseen(), attempted.to_owned());
    let call = || async {
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::Metadata("shardflow".into()), "probe".into());
        // Overwriting tells nothing of put-if-absent; that is what comes next.
        let options = PutOptions { mode: PutMode::Overwrite, attributes, ..Default::default() };
        match bucket.store.put_opts(&path, PutPayload::from_static(b"shardflow\n"), options).await {
            Ok(_) => Ok(true),
            Err(error) if is_unsupported(&error) => Ok(false),
            Err(error) => Err(at_start(&error)),
        }
    };
    retries.run(call).await.map_err(|trouble| failed(format!("could not {attempted}"), trouble))
}

async fn twice(bucket: &Bucket, keys: &Keys, attempted: &str) -> Result<Refuses> {
    let path = keys.probe();
    let create = || async {
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match bucket.store.put_opts(&path, PutPayload::from_static(b"shardflow\n"), options).await {
            Ok(_) => Ok(Refuses::Ignores),
            Err(error) if is_taken(&error) => Ok(Refuses::Yes),
            Err(error) if is_unsupported(&error) => Ok(Refuses::Cannot),
            Err(error) => Err(at_start(&error)),
        }
    };
    // The first may write it, where there was none.
    for _ in 0..2 {
        let retries = bucket.retries(&RetryMetrics::unseen(), attempted.to_owned());
        let found = retries.run(create).await;
        let found = found.map_err(|trouble| failed(format!("could not {attempted}"), trouble))?;
        if found != Refuses::Ignores {
            return Ok(found);
        }
    }
    Ok(Refuses::Ignores)
}

/// Whether an upload in parts is refused where there is an object: the probe is there.
async fn completed(bucket: &Bucket, store: &dyn MultipartStore, keys: &Keys, attempted: &str) -> Result<Refuses> {
    let retries = || bucket.retries(&RetryMetrics::unseen(), attempted.to_owned());
    let path = keys.probe();
    let upload = || async {
        let create = || async { where_known(store.create_multipart(&path).await) };
        let Some(upload) = retries().run(create).await? else { return Ok(Refuses::Cannot) };
        let found = complete(store, &path, &upload, retries).await;
        if !matches!(found, Ok(Refuses::Ignores)) {
            // Where this fails, what comes next in a start aborts it.
            let _ = store.abort_multipart(&path, &upload).await;
        }
        found
    };
    retries().run(upload).await.map_err(|trouble| failed(format!("could not {attempted} in parts"), trouble))
}

/// Sends the part of an upload and completes it, each call again where it has to be.
async fn complete(
    store: &dyn MultipartStore,
    path: &Path,
    upload: &MultipartId,
    retries: impl Fn() -> Retries<WallClock>,
) -> Result<Refuses, Trouble> {
    let part = || PutPayload::from_static(b"shardflow\n");
    let send = || async { where_known(store.put_part(path, upload, 0, part()).await) };
    let Some(part) = retries().run(send).await? else { return Ok(Refuses::Cannot) };
    let complete = || async {
        match store.complete_multipart(path, upload, vec![part.clone()]).await {
            Ok(_) => Ok(Some(Refuses::Ignores)),
            Err(error) if is_taken(&error) => Ok(Some(Refuses::Yes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => where_known::<()>(Err(error)).map(|_| Some(Refuses::Cannot)),
        }
    };
    let found = retries().run(complete).await?;
    found.ok_or_else(|| passing("the upload of the probe is gone".to_owned()))
}

/// `None`: the store knows no such call, or not this condition. What else is amiss comes up once there is a large object.
fn where_known<T>(answer: object_store::Result<T>) -> Result<Option<T>, Trouble> {
    match answer.map_err(|error| at_start(&error)) {
        Ok(answer) => Ok(Some(answer)),
        Err(trouble) if trouble.may_pass.is_none() => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// Output beyond the last committed epoch was shipped by a state that this start does not have.
///
/// # Errors
/// There is some, or the store cannot list.
pub(super) async fn refuse_what_lies_beyond(bucket: &Bucket, keys: &Keys, committed: Option<Epoch>) -> Result<()> {
    let attempted = format!("list manifests in \"{}\"", bucket.place);
    let retries = bucket.retries(&RetryMetrics::unseen(), attempted.clone());
    let call = || async {
        let (folder, through) = (keys.manifests(), keys.manifests_through(committed));
        let mut listed = bucket.store.list_with_offset(Some(&folder), &through);
        // The store lists in the order of names: what is not ours comes behind.
        while let Some(found) = listed.try_next().await.map_err(|error| trouble(&error))? {
            let epoch = keys.epoch_of_manifest(&found.location);
            if epoch.is_some_and(|epoch| committed.is_none_or(|last| epoch > last)) {
                return Ok(Some((found.location, epoch)));
            }
        }
        Ok(None)
    };
    let found = retries.run(call).await.map_err(|trouble| failed(format!("could not {attempted}"), trouble))?;
    let Some((path, Some(epoch))) = found else { return Ok(()) };
    let state = committed.map_or("has committed nothing".to_owned(), |last| format!("ends at epoch {last}"));
    Err(Error::state(format!(
        "output \"{path}\" in \"{}\" is of epoch {epoch}, but the state {state}: it is older than its output, and going on would \
         write results twice; use the newer state, or another prefix",
        bucket.place
    )))
}

/// Aborts what earlier starts began to upload and did not complete. Where that cannot be done the job goes on: such uploads
/// are not visible, they only take space.
pub(super) async fn clear(bucket: &Bucket, keys: &Keys, from: &Leftovers) {
    let retries = bucket.retries(&RetryMetrics::unseen(), format!("abort old uploads to \"{}\"", bucket.place));
    let place = bucket.place.as_str();
    let call = || async {
        match from {
            Leftovers::S3(s3) => leftovers::of_s3(s3, keys).await,
            Leftovers::Disk(root) => {
                let (root, keys) = (root.clone(), keys.clone());
                let cleared = tokio::task::spawn_blocking(move || leftovers::of_disk(&root, &keys)).await;
                cleared.map_err(|error| fatal(error.to_string()))?.map_err(|error| fatal(error.to_string()))
            }
            Leftovers::Hidden => Ok(0),
        }
    };
    match retries.run(call).await {
        Ok(0) => {}
        Ok(aborted) => info!(place, aborted, "aborted uploads that earlier starts did not complete"),
        Err(failure) => warn!(place, %failure, "could not abort uploads that earlier starts may have left"),
    }
}
