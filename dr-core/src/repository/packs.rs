//! Lists the packs that are in the store.

use dr_store::ObjectMeta;

use super::Inner;
use crate::error::Result;
use crate::format::envelope::PackClass;
use crate::format::names;
use crate::id::ObjectHash;

impl Inner {
    /// Visits every pack in the store, class by class. A name in their folders that is no pack's is none.
    pub(crate) fn list_packs(&self, visit: &mut dyn FnMut(PackClass, ObjectHash, &ObjectMeta)) -> Result<()> {
        self.list_pack_folders(&mut |class, hash, meta| {
            if let Some(hash) = hash {
                visit(class, hash, meta);
            }
        })
    }

    /// The same, of every object in the folders of packs: those of other names have no hash.
    pub(crate) fn list_pack_folders(
        &self,
        visit: &mut dyn FnMut(PackClass, Option<ObjectHash>, &ObjectMeta),
    ) -> Result<()> {
        for class in PackClass::ALL {
            self.store.list(class.folder(), None, &mut |meta| {
                let hash = names::parse_hash(&meta.name).filter(|hash| names::pack(class, hash) == meta.name);
                visit(class, hash, &meta);
                Ok(())
            })?;
        }
        Ok(())
    }
}
