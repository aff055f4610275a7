//! Random commands, compared to a small model.

use domain::ports::SessionRepository;

/// Whatever is done in whatever order, the store says what the small model says.
pub async fn random_commands_do_what_a_small_model_does(repo: &dyn SessionRepository) {
    crate::conformance::model::compare(repo);
}
