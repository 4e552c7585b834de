use universal_neurons::*;
fn main() {
    let p = std::env::args().nth(1).unwrap();
    let go = || -> Result<()> {
        let plan = plan::Plan::make(spec::Spec::load(p.as_ref())?)?;
        let dir = store::RunDirectory::begin(
            std::path::Path::new("runs").join(&plan.spec.name).as_ref(),
        )?;
        let f = run::run(&plan, &progress::Progress::on_stderr(), &Default::default())?;
        print!("{}", report::terminal::summary(&f.summary));
        report::files::write(&plan, &f, dir)?;
        Ok(())
    };
    if let Err(e) = go() {
        eprintln!("error: {e}");
        std::process::exit(2)
    }
}
