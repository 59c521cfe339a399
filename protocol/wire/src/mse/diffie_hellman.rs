//! The key exchange of MSE: Diffie-Hellman in a group of 768 bits with exponents of 160 bits.
//!
//! Invariant: no shared secret is made from a public key that would fix it whatever our exponent is (0, 1, p - 1, or p and more).

use super::MseError;
use core::fmt;
use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U192, U768};

/// Bytes of a public key and of a shared secret.
pub(super) const KEY_LENGTH: usize = 96;

/// Bytes of an exponent. The specification recommends 160 bits: more cost time on both ends and protect nothing more in this group.
pub(super) const SECRET_LENGTH: usize = 20;

const EXPONENT_BITS: u32 = 160;

const MODULUS: Odd<U768> = Odd::from_be_hex(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74\
     020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
     4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563",
);

const GENERATOR: U768 = U768::from_u8(2);

/// For arithmetic modulo [`MODULUS`].
const GROUP: FixedMontyParams<{ U768::LIMBS }> = FixedMontyParams::new_vartime(MODULUS);

/// A private exponent, of one handshake. Choose it as one chooses keys: not from a seeded generator.
#[derive(Clone)]
pub struct Secret(U192);

impl Secret {
    /// The exponent with these bytes, the most significant first.
    #[must_use]
    pub fn new(bytes: [u8; SECRET_LENGTH]) -> Self {
        let mut wide = [0; U192::BYTES];
        wide[U192::BYTES - SECRET_LENGTH..].copy_from_slice(&bytes);
        Secret(U192::from_be_slice(&wide))
    }

    /// What the remote is told.
    pub(super) fn public_key(&self) -> [u8; KEY_LENGTH] {
        self.power(&GENERATOR)
    }

    /// What both sides know, and nobody who only listens.
    pub(super) fn shared(&self, remote: &[u8; KEY_LENGTH]) -> Result<[u8; KEY_LENGTH], MseError> {
        let remote = U768::from_be_slice(remote);
        let largest = MODULUS.get().wrapping_sub(&GENERATOR);
        if remote < GENERATOR || remote > largest {
            return Err(MseError::PublicKey);
        }
        Ok(self.power(&remote))
    }

    /// In a time that does not depend on the exponent.
    fn power(&self, base: &U768) -> [u8; KEY_LENGTH] {
        let base = FixedMontyForm::new(base, &GROUP);
        let power = base.pow_bounded_exp(&self.0, EXPONENT_BITS).retrieve();
        let mut bytes = [0; KEY_LENGTH];
        bytes.copy_from_slice(power.to_be_bytes().as_ref());
        bytes
    }
}

/// Shows nothing.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The public key `MODULUS - below`, or a small one.
    fn below_modulus(below: u8) -> [u8; KEY_LENGTH] {
        let mut key = [0; KEY_LENGTH];
        let value = MODULUS.get().wrapping_sub(&U768::from_u8(below));
        key.copy_from_slice(value.to_be_bytes().as_ref());
        key
    }

    fn small(value: u8) -> [u8; KEY_LENGTH] {
        let mut key = [0; KEY_LENGTH];
        key[KEY_LENGTH - 1] = value;
        key
    }

    #[test]
    fn keys_that_would_fix_the_secret_are_refused() {
        let secret = Secret::new([7; 20]);
        let refused = [
            small(0),
            small(1),
            below_modulus(1),
            below_modulus(0),
            [0xff; 96],
        ];
        for key in refused {
            assert_eq!(secret.shared(&key), Err(MseError::PublicKey));
        }
        for key in [small(2), below_modulus(2)] {
            assert!(secret.shared(&key).is_ok());
        }
    }

    #[test]
    fn small_powers_are_what_they_are() {
        let mut exponent = [0; 20];
        exponent[19] = 10;
        let mut expected = [0; KEY_LENGTH];
        expected[KEY_LENGTH - 2] = 4;
        assert_eq!(Secret::new(exponent).public_key(), expected);
        exponent[19] = 3;
        assert_eq!(Secret::new(exponent).shared(&small(5)), Ok(small(125)));
        // -2 to the third.
        assert_eq!(
            Secret::new(exponent).shared(&below_modulus(2)),
            Ok(below_modulus(8))
        );
    }

    #[test]
    fn what_is_printed_is_no_secret() {
        assert_eq!(format!("{:?}", Secret::new([1; 20])), "Secret");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn both_sides_come_to_the_same(a in any::<[u8; 20]>(), b in any::<[u8; 20]>()) {
            let (a, b) = (Secret::new(a), Secret::new(b));
            prop_assert_eq!(a.shared(&b.public_key()), b.shared(&a.public_key()));
        }
    }
}
