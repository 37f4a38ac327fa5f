//! Uploads a pack: its objects, several at a time, and its manifest behind them.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fail::fail_point;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use shardflow::Result;
use shardflow::metrics::DeliveryMetrics;
use shardflow::sink::Trouble;

use super::bucket::{Bucket, Wanted};
use super::failure::{failed, fatal};
use super::metrics::ShippingMetrics;
use super::pack::{Pack, Packed};
use super::parts::{Parted, read};

/// How packs are uploaded.
pub(super) struct Uploads {
    pub(super) bucket: Bucket,
    pub(super) part_bytes: u64,
    pub(super) concurrency: usize,
}

impl Uploads {
    /// Uploads everything in `pack`. Afterwards all of it is there.
    ///
    /// # Errors
    /// Something else is under one of its names, or the store refuses, or fails for longer than one waits.
    pub(super) async fn upload(
        &self,
        pack: Arc<Pack>,
        delivery: &DeliveryMetrics,
        shipping: &ShippingMetrics,
    ) -> Result<()> {
        let (pack, objects) = (&pack, &pack.index.objects);
        let puts = futures::stream::iter(objects).map(|object| async move {
            self.put(pack, object, delivery).await?;
            shipping.objects.increment(1);
            if pack.index.is_rejected(object) {
                delivery.refused.increment(object.records);
            } else {
                delivery.records.increment(object.records);
                delivery.bytes.increment(object.bytes);
            }
            fail_point!("sink-objects::after-put", |_| Err(shardflow::Error::sink("stopped after an object")));
            Ok::<(), shardflow::Error>(())
        });
        puts.buffer_unordered(self.concurrency.max(1)).try_collect::<()>().await?;
        fail_point!("sink-objects::before-manifest", |_| Err(shardflow::Error::sink("stopped before the manifest")));
        self.put(pack, &pack.index.manifest, delivery).await
    }

    async fn put(&self, pack: &Arc<Pack>, object: &Packed, delivery: &DeliveryMetrics) -> Result<()> {
        fail_point!("sink-objects::before-put", |_| Err(shardflow::Error::sink("stopped before an object")));
        let attempted = || format!("upload \"{}\" to \"{}\"", object.key, self.bucket.place);
        let retries = self.bucket.retries(&delivery.retries, attempted());
        let put = async {
            let path = Path::parse(&object.key).map_err(|error| fatal(format!("its name is none: {error}")))?;
            let wanted = Wanted { path, bytes: object.bytes, sha256: object.sha256 };
            retries.run(|| self.attempt(pack, object, &wanted, delivery)).await
        };
        put.await.map_err(|trouble| failed(format!("could not {}", attempted()), trouble))
    }

    async fn attempt(
        &self,
        pack: &Arc<Pack>,
        object: &Packed,
        wanted: &Wanted,
        delivery: &DeliveryMetrics,
    ) -> Result<(), Trouble> {
        let _call = delivery.call();
        let begun = Instant::now();
        let put = if object.bytes > self.part_bytes {
            let (bucket, part_bytes, concurrency) = (&self.bucket, self.part_bytes, self.concurrency);
            Parted { bucket, pack, object, wanted, part_bytes, concurrency, retries: &delivery.retries }.put().await
        } else {
            self.whole(pack, object, wanted).await
        };
        delivery.seconds.record(begun.elapsed().as_secs_f64());
        put
    }

    async fn whole(&self, pack: &Arc<Pack>, object: &Packed, wanted: &Wanted) -> Result<(), Trouble> {
        let _permit = self.bucket.permit().await?;
        let bytes = read(pack, object, 0, object.bytes).await?;
        self.bucket.put(wanted, Bytes::from(bytes)).await
    }
}
