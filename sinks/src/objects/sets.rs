//! What every set of objects says of itself: its names, the place that it belongs to, and its manifest.

use shardflow::Result;

use super::keys::Keys;
use super::manifest::{EpochRange, Manifest, ManifestObject};
use super::names::{Extent, FileId};
use super::pack::{Index, Open, PackWriter, Packed};
use crate::partition::values;

/// Ends packs of one step of one job.
pub(super) struct Sets {
    pub(super) keys: Keys,
    /// Where they belong: `s3://bucket`.
    pub(super) place: String,
    pub(super) job: String,
    pub(super) step: String,
}

impl Sets {
    /// Ends the pack of a spool file that had so many records, with its manifest and its index. It has no name yet.
    pub(super) fn complete(
        &self,
        mut pack: PackWriter,
        id: FileId,
        extent: Extent,
        records: u64,
        mut objects: Vec<Packed>,
    ) -> Result<()> {
        objects.sort_by(|one, other| one.key.cmp(&other.key));
        let text = self.manifest(id, extent, records, &objects).to_json()?;
        let mut manifest = Open::new();
        pack.append(&mut manifest, &text)?;
        let manifest = manifest.done(self.keys.manifest(id, extent).as_ref().to_owned());
        pack.finish(&Index { id, extent, place: self.place.clone(), records, objects, manifest })
    }

    /// What readers are told of the set.
    fn manifest(&self, id: FileId, extent: Extent, records: u64, objects: &[Packed]) -> Manifest {
        let object = |object: &Packed| ManifestObject {
            name: object.key.clone(),
            bytes: object.bytes,
            records: object.records,
            sha256: object.checksum(),
            partition: values(self.keys.partition_of(&object.key)).into_iter().collect(),
        };
        let (format, version) = Manifest::format();
        Manifest {
            format,
            version,
            job: self.job.clone(),
            step: self.step.clone(),
            incarnation: id.incarnation,
            worker: id.worker,
            serial: id.serial,
            epochs: EpochRange { first: extent.first, last: extent.last },
            records,
            objects: objects.iter().map(object).collect(),
        }
    }
}
