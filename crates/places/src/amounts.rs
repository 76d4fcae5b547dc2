//! Which holders give back an amount of what they hold, such as bytes of memory.

use std::cmp::Reverse;

use ahash::AHashMap;

use crate::counts::Counts;
use crate::{Source, Standing};

/// How much a holder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding<K> {
    /// Where the holder comes from.
    pub source: Source,
    /// The holder. A lower id is older.
    pub holder: K,
    /// How much it holds.
    pub amount: usize,
    /// What it has done.
    pub standing: Standing,
}

/// Returns the holders that give back what they hold until `wanted` is free, or all of them if they
/// hold less.
///
/// Each time, it is one of the address that holds most, in the prefix that holds most: the one with
/// the lowest standing. Of several with equal standing, it is the one that holds most, then the oldest.
pub fn yielding_amount<K: Copy + Ord>(
    holdings: impl IntoIterator<Item = Holding<K>>,
    wanted: usize,
) -> Vec<Holding<K>> {
    let mut prefixes = Counts::default();
    let mut addresses: AHashMap<u128, Counts<u128>> = AHashMap::new();
    let mut holders: AHashMap<(u128, u128), Vec<Holding<K>>> = AHashMap::new();
    for holding in holdings {
        let Source { prefix, address } = holding.source;
        if holding.amount > 0 {
            prefixes.add(prefix, holding.amount);
            let of_prefix = addresses.entry(prefix).or_default();
            of_prefix.add(address, holding.amount);
            holders.entry((prefix, address)).or_default().push(holding);
        }
    }
    for of_address in holders.values_mut() {
        // The first to yield is the last.
        of_address.sort_unstable_by_key(|holding| {
            Reverse((
                holding.standing.rank(),
                Reverse(holding.amount),
                holding.holder,
            ))
        });
    }
    let mut next = || {
        let prefix = prefixes.largest()?;
        let of_prefix = addresses.get_mut(&prefix)?;
        let address = of_prefix.largest()?;
        let holding = holders.get_mut(&(prefix, address))?.pop()?;
        prefixes.subtract(prefix, holding.amount);
        of_prefix.subtract(address, holding.amount);
        Some(holding)
    };
    let (mut yielding, mut freed) = (Vec::new(), 0);
    while freed < wanted
        && let Some(holding) = next()
    {
        freed += holding.amount;
        yielding.push(holding);
    }
    yielding
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    fn holding(address: [u8; 4], holder: u32, amount: usize, standing: Standing) -> Holding<u32> {
        Holding {
            source: IpAddr::from(address).into(),
            holder,
            amount,
            standing,
        }
    }

    fn yielding(holdings: &[Holding<u32>], wanted: usize) -> Vec<u32> {
        yielding_amount(holdings.iter().copied(), wanted)
            .iter()
            .map(|holding| holding.holder)
            .collect()
    }

    #[test]
    fn the_largest_prefix_yields_until_another_is_the_largest() {
        let unproven = Standing::Unproven;
        let holdings = [
            holding([192, 0, 2, 1], 1, 10, unproven),
            holding([192, 0, 2, 2], 2, 10, unproven),
            holding([192, 0, 2, 2], 3, 10, unproven),
            holding([198, 51, 100, 1], 4, 25, Standing::Overdue),
            holding([203, 0, 113, 1], 5, 1, Standing::Overdue),
        ];
        assert_eq!(yielding(&holdings, 1), [2]);
        assert_eq!(yielding(&holdings, 11), [2, 4]);
        assert_eq!(yielding(&holdings, 1_000), [2, 4, 3, 1, 5]);
        assert_eq!(yielding(&holdings, 0), [0; 0]);
    }

    #[test]
    fn within_an_address_the_lowest_standing_yields_then_the_largest_amount() {
        let waiting = |seconds| Standing::Waiting(Duration::from_secs(seconds));
        let address = [192, 0, 2, 1];
        let holdings = [
            holding(address, 1, 90, Standing::Progressing(5)),
            holding(address, 2, 10, waiting(1)),
            holding(address, 3, 10, waiting(9)),
            holding(address, 4, 10, Standing::Unproven),
            holding(address, 5, 30, Standing::Unproven),
            holding(address, 6, 30, Standing::Unproven),
            holding(address, 7, 10, Standing::Overdue),
        ];
        assert_eq!(yielding(&holdings, 1_000), [7, 5, 6, 4, 3, 2, 1]);
    }

    #[test]
    fn a_holder_of_nothing_never_yields() {
        let holdings = [holding([192, 0, 2, 1], 1, 0, Standing::Overdue)];
        assert_eq!(yielding(&holdings, 1), [0; 0]);
    }
}
