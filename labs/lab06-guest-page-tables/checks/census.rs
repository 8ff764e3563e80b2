//! Every page that tables map, by listing all entries of all tables: what `map` is held against.

use lab06::{Gpa, Gva, Level, Page, PhysicalMemory, Rights, bits, reserved_bits};

/// Lists the pages below `cr3` in the order of their virtual addresses.
///
/// # Errors
///
/// A sentence about an entry that no processor would accept, or that leads out of memory.
pub fn census(memory: &dyn PhysicalMemory, cr3: Gpa) -> Result<Vec<Page>, String> {
    let all = Rights {
        writable: true,
        user: true,
        executable: true,
    };
    let mut pages = Vec::new();
    list(memory, &Level::ALL, cr3, 0, all, &mut pages)?;
    pages.sort_by_key(|page| page.gva);
    Ok(pages)
}

fn list(
    memory: &dyn PhysicalMemory,
    levels: &[Level],
    table: Gpa,
    first: u64,
    above: Rights,
    pages: &mut Vec<Page>,
) -> Result<(), String> {
    let Some((&level, below)) = levels.split_first() else {
        return Ok(());
    };
    for index in 0..512 {
        let at = Gpa(table.0 + 8 * index);
        let entry = memory.read_u64(at);
        let entry = entry.ok_or_else(|| format!("a table at {table}, where there is no memory"))?;
        if entry % 2 == 0 {
            continue;
        }
        let leaf = below.is_empty() || entry & bits::HUGE != 0;
        if entry & reserved_bits(level, leaf, true) != 0 {
            return Err(format!(
                "{level:?} entry at {at}: {entry:#x} has a reserved bit set"
            ));
        }
        let rights = Rights {
            writable: above.writable && entry & bits::WRITABLE != 0,
            user: above.user && entry & bits::USER != 0,
            executable: above.executable && entry & bits::NO_EXECUTE == 0,
        };
        let upper_half = level == Level::Pml4 && index >= 256;
        let first = first + index * level.page_bytes() + if upper_half { !0 << 48 } else { 0 };
        let address = Gpa(entry & bits::ADDRESS);
        if leaf {
            pages.push(Page {
                gva: Gva(first),
                gpa: address,
                leaf: level,
                rights,
            });
        } else {
            list(memory, below, address, first, rights, pages)?;
        }
    }
    Ok(())
}
