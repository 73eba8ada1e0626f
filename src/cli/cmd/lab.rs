//! `viscum lab`.

use std::process::ExitCode;

use crate::cli::args::{Lab, LabNet};
use crate::lab;

pub fn lab(args: Lab) -> anyhow::Result<ExitCode> {
    match args {
        Lab::Up(net) => {
            for note in lab::up(&options(net))? {
                super::print(&format!("note: {note}\n"));
            }
            super::print(lab::net::HOW_TO_USE);
        }
        Lab::Down => {
            lab::down()?;
            super::print("the testbed is gone\n");
        }
        Lab::Demo(demo) => {
            let options = lab::DemoOptions {
                images: demo.images,
                count: usize::from(demo.count),
                mode: demo.mode,
                deliver: demo.net.deliver,
                net: options(demo.net),
                keep: demo.keep,
            };
            let outcome = lab::demo(&options)?;
            for wrong in &outcome.wrong {
                eprintln!("wrong: {wrong}");
            }
            return Ok(if outcome.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Lab::PlateServer(server) => match lab::server::serve(server.listen, server.log.as_deref())? {},
        Lab::Camera(camera) => lab::camera::run(camera.to, &camera.images)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn options(net: LabNet) -> lab::NetOptions {
    lab::NetOptions { deliver: net.deliver, veth_mtu: net.veth_mtu, ..lab::NetOptions::default() }
}
