//! What can still be read of a damaged segment, block by block.

use std::sync::Arc;

use super::block_cursor::BlockCursor;
use super::reader::Segment;
use crate::error::{Damage, Error, Result};
use crate::types::Entry;

impl Segment {
    /// Shows every entry of every block that is whole, in table order, and names the blocks that
    /// aren't. Entries of a block whose damage shows only in its middle may have been shown.
    ///
    /// # Errors
    /// What `visit` answers.
    pub fn salvage(
        self: &Arc<Self>,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<Vec<Damage>> {
        let mut damage = Vec::new();
        let index = match self.index() {
            Ok(index) => index,
            Err(Error::Damaged(found)) => return Ok(found),
            Err(error) => {
                let what = format!("could not be read: {error}");
                return Ok(vec![self.file.damage(self.footer.index, what)]);
            }
        };
        for place in (0..index.blocks()).filter_map(|number| index.extent(number)) {
            let block = match self.read_block(place) {
                Ok(block) => block,
                Err(Error::Damaged(found)) => {
                    damage.extend(found);
                    continue;
                }
                Err(error) => {
                    let what = format!("could not be read: {error}");
                    damage.push(self.file.damage(place, what));
                    continue;
                }
            };
            let mut cursor = BlockCursor::default();
            cursor.reset(&block);
            loop {
                match self.checked(place, cursor.next(&block)) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(Error::Damaged(found)) => {
                        damage.extend(found);
                        break;
                    }
                    Err(error) => return Err(error),
                }
                if let Some(entry) = cursor.entry(&block) {
                    visit(entry)?;
                }
            }
        }
        Ok(damage)
    }
}
