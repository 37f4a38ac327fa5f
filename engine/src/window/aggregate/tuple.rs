//! Several aggregates in one pass.

use super::Aggregate;

macro_rules! tuple {
    ($($name:ident $at:tt),+) => {
        impl<In, $($name: Aggregate<In>),+> Aggregate<In> for ($($name,)+) {
            type Acc = ($($name::Acc,)+);
            type Out = ($($name::Out,)+);

            fn empty(&self) -> Self::Acc {
                ($(self.$at.empty(),)+)
            }

            #[inline]
            fn add(&self, acc: &mut Self::Acc, record: &In) {
                $(self.$at.add(&mut acc.$at, record);)+
            }

            fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
                $(self.$at.merge(&mut acc.$at, other.$at);)+
            }

            fn finish(&self, acc: Self::Acc) -> Self::Out {
                ($(self.$at.finish(acc.$at),)+)
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);

#[cfg(test)]
mod tests {
    use crate::window::aggregate::tests_support::adding;
    use crate::window::aggregate::{count, max, mean, min, sum};

    #[test]
    fn a_tuple_computes_each_of_its_parts() {
        let all = (
            count(),
            sum(|n: &u64| *n),
            min(|n: &u64| *n),
            max(|n: &u64| *n),
            mean(|n: &u64| *n as f64),
            (count(), count()),
        );
        assert_eq!(adding(&all, &[2, 8, 5]), (3, 15, Some(2), Some(8), Some(5.0), (3, 3)));
    }
}
