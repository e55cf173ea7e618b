//! Which part of a shared work is this machine's.

use std::env;

use dr_core::Shard;

/// Reads `3/8`, or `auto` for what a scheduler says in the environment.
pub(crate) fn parse(text: &str) -> Result<Shard, String> {
    if text == "auto" {
        return from_scheduler(&|name| env::var(name).ok());
    }
    text.parse().map_err(|error: dr_core::Error| error.to_string())
}

/// Kubernetes indexed jobs count from 0 in `JOB_COMPLETION_INDEX` and do not say how many there are: `DR_SHARD_COUNT` must.
/// Slurm arrays say all of it.
fn from_scheduler(variable: &dyn Fn(&str) -> Option<String>) -> Result<Shard, String> {
    let number = |name: &str| -> Option<u32> { variable(name)?.trim().parse().ok() };
    let place = match (number("JOB_COMPLETION_INDEX"), number("SLURM_ARRAY_TASK_ID")) {
        (Some(index), _) => number("DR_SHARD_COUNT").map(|count| (index.saturating_add(1), count)),
        (None, Some(task)) => {
            let first = number("SLURM_ARRAY_TASK_MIN").unwrap_or(0);
            let count = number("SLURM_ARRAY_TASK_COUNT").or_else(|| number("DR_SHARD_COUNT"));
            count.map(|count| (task.saturating_sub(first).saturating_add(1), count))
        }
        (None, None) => None,
    };
    let (number, count) = place.ok_or(
        "no scheduler says which shard this is: set JOB_COMPLETION_INDEX and DR_SHARD_COUNT, or run in a Slurm array",
    )?;
    Shard::new(number, count).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(variables: &[(&str, &str)]) -> Result<Shard, String> {
        let known =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        from_scheduler(&known)
    }

    #[test]
    fn schedulers_say_which_shard_this_is() {
        let third = Shard::new(3, 8).unwrap();
        assert_eq!(shard(&[("JOB_COMPLETION_INDEX", "2"), ("DR_SHARD_COUNT", "8")]), Ok(third));
        let slurm =
            [("SLURM_ARRAY_TASK_ID", "12"), ("SLURM_ARRAY_TASK_MIN", "10"), ("SLURM_ARRAY_TASK_COUNT", "8")];
        assert_eq!(shard(&slurm), Ok(third));
        assert!(shard(&[]).is_err() && shard(&[("JOB_COMPLETION_INDEX", "2")]).is_err());
        assert!(shard(&[("JOB_COMPLETION_INDEX", "8"), ("DR_SHARD_COUNT", "8")]).is_err());
        assert_eq!(parse("3/8"), Ok(third));
        assert!(parse("0/8").is_err() && parse("9/8").is_err() && parse("x").is_err());
    }
}
