//! The program on a real terminal: Ctrl-C is typed, passwords are, and the terminal goes away.

use std::path::Path;
use std::time::Duration;

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;
use dr_tests::terminal::Terminal;

const CTRL_C: &str = "\x03";

/// Whether packs of file contents lie in a repository.
fn has_packs(repository: &Path) -> bool {
    let folders = std::fs::read_dir(repository.join("data")).into_iter().flatten();
    folders
        .flatten()
        .any(|folder| std::fs::read_dir(folder.path()).is_ok_and(|mut items| items.next().is_some()))
}

/// A backup on a terminal that has stored something and goes on.
fn begin(shell: &Shell) -> Terminal {
    let mut command = shell.command();
    command.arg("backup").arg(shell.workshop.source()).env("DR_PROGRESS_FPS", "60");
    let mut terminal = Terminal::start(&command);
    let repository = shell.repository();
    terminal.wait_until("a bar and a pack", |terminal| {
        let shown = terminal.shown();
        assert!(!shown.contains("saved"), "{shown}");
        shown.contains('\r') && has_packs(&repository)
    });
    terminal
}

fn shell_with_much() -> Shell {
    let shell = Shell::new();
    let files = ["one", "two", "three", "four"].map(|name| (name, 45 << 20));
    TreeSpec::files(&files).write(&shell.workshop.source());
    shell
}

fn assert_next_backup_works(shell: &Shell) {
    assert_eq!(shell.snapshots().len(), 0);
    shell.check();
    shell.run(&mut shell.backup());
    shell.assert_restores("latest", &shell.workshop.source());
    shell.check();
}

#[test]
fn heavy_ctrl_c_ends_a_backup_with_a_bar_and_leaves_the_terminal_as_it_was() {
    let shell = shell_with_much();
    let mut terminal = begin(&shell);
    let before = terminal.settings();
    terminal.type_in(CTRL_C);
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(130), "{shown}");
    assert_eq!(terminal.settings(), before);
    assert!(terminal.shows_what_is_typed());
    // No bar stands on the line of the message.
    let last = shown.trim_end().rsplit("error: ").nth(1).unwrap_or_default().to_owned();
    assert!(shown.contains("error: interrupted"), "{shown}");
    assert!(last.ends_with("\x1b[2K") || last.ends_with('\n'), "{last:?}");
    assert_next_backup_works(&shell);
}

#[test]
fn heavy_a_backup_whose_terminal_goes_away_ends_and_loses_nothing() {
    let shell = shell_with_much();
    let mut terminal = begin(&shell);
    assert_eq!(terminal.hang_up(), Some(130));
    assert_next_backup_works(&shell);
}

#[test]
fn a_password_is_typed_without_being_shown() {
    let shell = Shell::default();
    let on_terminal = |arguments: &[&str]| {
        let mut command = shell.command();
        command.env_remove("DR_KEY_FILE").args(arguments);
        Terminal::start(&command)
    };
    let first = "password of the repository: ";
    let mut terminal = on_terminal(&["init"]);
    terminal.wait_for_prompt(first, 1);
    terminal.type_in("correct horse\n");
    terminal.wait_for_prompt("the same password again: ", 1);
    terminal.type_in("correct horse\n");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains("horse") && terminal.shows_what_is_typed(), "{shown}");

    for (password, expected) in [("battery staple\n", 12), ("correct horse\n", 0)] {
        let mut terminal = on_terminal(&["stats"]);
        terminal.wait_for_prompt(first, 1);
        terminal.type_in(password);
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(expected), "{shown}");
        assert!(!shown.contains(password.trim_end()) && terminal.shows_what_is_typed(), "{shown}");
    }

    // Given up in the middle of the password.
    let mut terminal = on_terminal(&["stats"]);
    let before = terminal.settings();
    terminal.wait_for_prompt(first, 1);
    terminal.type_in("correct");
    std::thread::sleep(Duration::from_millis(50));
    terminal.type_in(CTRL_C);
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(130), "{shown}");
    assert!(!shown.contains("correct") && shown.contains("error: interrupted"), "{shown}");
    assert!(terminal.shows_what_is_typed());
    // Read early, before the prompt changed anything, or after: only what the prompt sets may differ.
    assert_eq!((terminal.settings().0, terminal.settings().1), (before.0, before.1));
}
