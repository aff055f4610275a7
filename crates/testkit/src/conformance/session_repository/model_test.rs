//! Random commands, compared to a small model.

use domain::ports::SessionRepository;

/// After any operations in any order, the store returns what the small model returns.
pub async fn random_commands_do_what_a_small_model_does(repo: &dyn SessionRepository) {
    crate::conformance::model::compare(repo);
}
