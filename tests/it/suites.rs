//! Repositories whose objects are of two suites: whoever writes which, everybody reads all of them.

use std::fs;

use dr_core::stages::Scan;
use dr_core::{Cipher, Description, ErrorKind, ObjectHash, StoredObject};
use dr_store::{Name, PutMode};
use dr_tests::garbage::prune;
use dr_tests::steps::Workshop;
use dr_tests::{Node, TestRepo, TreeSpec};

const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];

fn packs(repo: &TestRepo) -> Vec<Name> {
    let mut names = Vec::new();
    repo.store
        .list("data", None, &mut |meta| {
            names.push(meta.name);
            Ok(())
        })
        .unwrap();
    names
}

fn hash_of(pack: &Name) -> ObjectHash {
    ObjectHash::from_hex(pack.as_str().rsplit('/').next().unwrap()).unwrap()
}

/// The suites and ciphers of the headers that a pack's frames are sealed under, its own first.
fn headers(repo: &TestRepo, pack: &Name) -> Vec<(i128, String)> {
    let Description::Record(fields) = repo.repository.describe(&StoredObject::Pack(hash_of(pack))).unwrap()
    else {
        panic!("a pack is a record")
    };
    let (_, Description::List(headers)) = fields.into_iter().find(|(name, _)| *name == "headers").unwrap()
    else {
        panic!("headers are a list")
    };
    let suite_of = |header| {
        let Description::Record(fields) = header else { panic!("a header is a record") };
        match &fields[..2] {
            [("suite", Description::Number(suite)), ("cipher", Description::Text(cipher))] => {
                (*suite, cipher.clone())
            }
            other => panic!("{other:?}"),
        }
    };
    headers.into_iter().map(suite_of).collect()
}

/// A file that is kept and one that goes away, large enough for frames of their own.
fn tree(round: u64) -> TreeSpec {
    let mut tree = TreeSpec::files(&[("kept", 3 << 20), ("a/b", 2500)]);
    if round == 0 {
        tree.put("once", Node::File { seed: 100, bytes: 2 << 20 });
    }
    if round > 0 {
        tree.put("later", Node::File { seed: 101, bytes: 3 << 20 });
    }
    if round == 1 {
        tree.put("twice", Node::File { seed: 102, bytes: 2 << 20 });
    }
    tree
}

#[test]
fn what_one_cipher_sealed_the_other_reads_adds_to_collects_and_restores() {
    for [first, second] in [CIPHERS, [CIPHERS[1], CIPHERS[0]]] {
        let workshop = Workshop::new();
        let source = workshop.source();
        let one = TestRepo::sealed_with(first);
        let two = one.sealing_with(second, 2);
        let mut copies = Vec::new();
        for (round, repo) in [(0, &one), (1, &two), (2, &one)] {
            let _ = fs::remove_dir_all(&source);
            tree(round).write(&source);
            copies.push(workshop.copy_of(&source));
            assert!(repo.backup(&[&source]).unwrap().is_complete());
        }
        let snapshots = two.snapshots();
        // What the other stored is not stored again.
        assert!(snapshots[1].totals.new_bytes < 6 << 20, "{:?}", snapshots[1].totals);
        for (snapshot, copy) in snapshots.iter().zip(&copies) {
            for repo in [&one, &two] {
                workshop.assert_restores(&repo.repository, snapshot, &source, copy);
            }
        }
        one.assert_intact();
        two.assert_intact();
        two.repository.forget(&[snapshots[0].id, snapshots[1].id]).unwrap();
        let report = prune(&two.repository).unwrap();
        assert!(report.packs_repacked >= 2, "{report:?}");
        let (one, two) = (one.sealing_with(first, 3), one.sealing_with(second, 4));
        let copied: Vec<Vec<i128>> = packs(&two)
            .iter()
            .map(|pack| headers(&two, pack).into_iter().skip(1).map(|(suite, _)| suite).collect())
            .collect();
        assert!(copied.iter().any(|suites| suites.contains(&1) && suites.contains(&2)), "{copied:?}");
        for repo in [&one, &two] {
            repo.assert_intact();
            workshop.assert_restores(&repo.repository, &snapshots[2], &source, &copies[2]);
        }
    }
}

#[test]
fn an_object_of_an_unknown_suite_is_newer_and_of_another_one_damaged() {
    let workshop = Workshop::new();
    let source = workshop.source();
    let repo = TestRepo::sealed_with(Cipher::Aes256Gcm);
    for round in 0..2 {
        tree(round).write(&source);
        assert!(repo.backup(&[&source]).unwrap().is_complete());
    }
    let packs = packs(&repo);
    assert!(packs.len() > 1);
    for pack in &packs {
        let intact = repo.store.get(pack).unwrap().to_vec();
        for (suite, kind, said) in
            [(3, ErrorKind::UnsupportedFormat, "suite"), (1, ErrorKind::Corrupt, "key commitment")]
        {
            let mut altered = intact.clone();
            assert_eq!(std::mem::replace(&mut altered[10], suite), 2);
            repo.store.put(pack, altered.into(), PutMode::Replace).unwrap();
            let error = repo.repository.describe(&StoredObject::Pack(hash_of(pack))).unwrap_err();
            assert!(error.kind() == kind && error.to_string().contains(said), "{error:?}");
            packs.iter().filter(|other| *other != pack).for_each(|other| drop(headers(&repo, other)));
            let report = repo.check().unwrap();
            assert!(!report.is_intact());
            for finding in &report.errors {
                assert!(finding.object.contains(pack.as_str()), "{finding:?}");
            }
        }
        repo.store.put(pack, intact.into(), PutMode::Replace).unwrap();
    }
    repo.assert_intact();
}

#[test]
fn the_scan_that_is_named_is_the_fastest_that_this_machine_has() {
    let backends = dr_core::backends();
    let (_, named) = backends.iter().find(|(name, _)| *name == "chunk scan").unwrap();
    let fastest = Scan::ALL.into_iter().find(|scan| scan.is_supported()).unwrap();
    assert_eq!(*named, format!("{fastest:?}").to_lowercase());
}

#[test]
fn what_is_sealed_by_default_is_what_this_machine_says_it_takes() {
    let workshop = Workshop::new();
    tree(0).write(&workshop.source());
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&workshop.source()]).unwrap().is_complete());
    let backends = dr_core::backends();
    let (_, sealing) = backends.iter().find(|(name, _)| *name == "sealing").unwrap();
    for pack in packs(&repo) {
        assert_eq!(headers(&repo, &pack)[0].1, *sealing);
    }
}
