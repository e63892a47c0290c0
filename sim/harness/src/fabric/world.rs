//! The hosts of a fabric, and the one runtime that they run in.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    future::{self, Future},
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use futures::future::LocalBoxFuture;
use tokio::{
    runtime::{Handle, Runtime},
    task::{AbortHandle, JoinHandle, LocalSet, spawn_local, yield_now},
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{Error, Host, HostNet, Link, Settings, nat, socket::Fabric, state::State};
use crate::{
    draw::Draws,
    net::{Control, End},
    task::{self, on_host},
};

/// Turns that the tasks of a host that ends have until all are dropped.
const TURNS_MAX: usize = 1_000_000;

thread_local! {
    /// When the world of this thread began.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How long the world of this thread has lasted, for whoever runs in it; none elsewhere.
pub fn elapsed() -> Option<Duration> {
    let began = BEGAN.try_with(Cell::get).ok().flatten()?;
    Handle::try_current().ok()?;
    Some(Instant::now().saturating_duration_since(began))
}

/// What runs on a host, each time that it starts.
pub type Program = Rc<dyn Fn(Started) -> LocalBoxFuture<'static, Result<(), String>>>;

/// What a program is given when it starts.
#[derive(Debug, Clone)]
pub struct Started {
    /// The network as its host sees it.
    pub net: HostNet,
    /// For tasks beside it, which end with it when the host crashes.
    pub spawner: Spawner,
}

/// Starts tasks of one host, which end when it crashes.
#[derive(Clone)]
pub struct Spawner {
    host: usize,
    tasks: Arc<Mutex<Tasks>>,
}

#[derive(Debug, Default)]
struct Tasks {
    next: u64,
    running: BTreeMap<u64, Option<AbortHandle>>,
}

/// Says that a task has ended when it is dropped.
struct Running {
    id: u64,
    tasks: Arc<Mutex<Tasks>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).running.remove(&self.id);
    }
}

impl Spawner {
    fn new(host: usize) -> Self {
        Self { host, tasks: Arc::default() }
    }

    /// Starts a task.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let id = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.next += 1;
            let id = tasks.next;
            tasks.running.insert(id, None);
            id
        };
        let running = Running { id, tasks: self.tasks.clone() };
        let task = on_host(Some(self.host), async move {
            let _running = running;
            future.await;
        });
        let handle = tokio::spawn(task).abort_handle();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = tasks.running.get_mut(&id) {
            *slot = Some(handle);
        }
    }

    fn abort_all(&self) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let handles: Vec<AbortHandle> = tasks.running.values().flatten().cloned().collect();
        drop(tasks);
        handles.iter().for_each(AbortHandle::abort);
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spawner of host {}", self.host)
    }
}

struct Site {
    program: Program,
    net: HostNet,
    spawner: Spawner,
    main: Option<JoinHandle<()>>,
}

/// A network with its hosts.
pub struct World {
    sites: Vec<Site>,
    step: Duration,
    failed: Rc<RefCell<Option<String>>>,
    fabric: Fabric,
    // Dropped last: what its tasks hold needs everything above.
    local: LocalSet,
    runtime: Runtime,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a world of {} hosts", self.sites.len())
    }
}

impl World {
    /// A world without hosts.
    ///
    /// # Errors
    /// Where no runtime can be made.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let began = runtime.block_on(async { Instant::now() });
        BEGAN.set(Some(began));
        let fabric = Fabric::new(State::new(Draws::new(settings.seed), settings.link), began);
        let local = LocalSet::new();
        runtime.block_on(local.run_until(async { drop(spawn_local(drive(fabric.clone()))) }));
        let (sites, failed) = (Vec::new(), Rc::default());
        Ok(Self { sites, step: settings.step, failed, fabric, local, runtime })
    }

    /// Adds a host and starts its program, which runs from the next step on.
    ///
    /// # Errors
    /// Where its address is taken.
    pub fn host(&mut self, ip: IpAddr, host: &Host, program: Program) -> Result<(), Error> {
        let number = self.within(|fabric| fabric.lock().add_host(ip, host))?;
        let net = HostNet { fabric: self.fabric.clone(), host: number, ip };
        self.sites.push(Site { program, net, spawner: Spawner::new(number), main: None });
        self.start(number);
        Ok(())
    }

    /// Something to do inside of the runtime, whose clock it reads.
    fn within<T>(&self, work: impl FnOnce(&Fabric) -> T) -> T {
        let _entered = self.runtime.enter();
        work(&self.fabric)
    }

    fn start(&mut self, number: usize) {
        self.within(|fabric| {
            let mut state = fabric.lock();
            (state.hosts[number].is_running, state.hosts[number].is_off) = (true, false);
        });
        let site = &mut self.sites[number];
        site.spawner = Spawner::new(number);
        let (program, failed) = (site.program.clone(), self.failed.clone());
        let started = Started { net: site.net.clone(), spawner: site.spawner.clone() };
        let main = on_host(Some(number), async move {
            if let Err(error) = program(started).await {
                failed.borrow_mut().get_or_insert(error);
            }
        });
        site.main = Some(self.local.spawn_local(main));
    }

    /// Runs for so long.
    ///
    /// # Errors
    /// What ended the program of a host.
    pub fn run_for(&mut self, time: Duration) -> Result<(), String> {
        self.runtime.block_on(self.local.run_until(async { sleep(time).await }));
        self.within(|fabric| drop(fabric.lock()));
        self.failed.borrow_mut().take().map_or(Ok(()), Err)
    }

    /// What the links between two hosts are.
    pub fn set_link(&mut self, one: IpAddr, other: IpAddr, link: Link) {
        self.between(one, other, |state, one, other| state.set_link(one, other, link));
    }

    /// A host stands behind this router from now on. Whoever stands behind another one of the same address must say the same of it.
    ///
    /// # Errors
    /// Where the address is that of a host, or of another router.
    pub fn move_behind(&mut self, host: IpAddr, router: nat::Settings) -> Result<(), Error> {
        let Some(number) = self.number(host) else { return Ok(()) };
        self.within(|fabric| fabric.lock().move_behind(number, router))
    }

    /// How much happened in the network.
    pub fn events(&self) -> u64 {
        self.within(|fabric| fabric.lock().events)
    }

    /// Connections, whole or half-open.
    pub fn connections(&self) -> usize {
        self.within(|fabric| fabric.lock().conns.len())
    }

    fn between<T>(
        &self,
        one: IpAddr,
        other: IpAddr,
        work: impl FnOnce(&mut State, usize, usize) -> T,
    ) -> Option<T> {
        self.within(|fabric| {
            let mut state = fabric.lock();
            let (one, other) = (state.host_of(one)?, state.host_of(other)?);
            Some(work(&mut state, one, other))
        })
    }

    fn number(&self, ip: IpAddr) -> Option<usize> {
        self.sites.iter().position(|site| site.net.ip == ip)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Tasks end inside of the runtime, whose clock they may read.
        let entered = self.runtime.enter();
        self.local = LocalSet::new();
        drop(entered);
        let _ = BEGAN.try_with(|began| began.set(None));
    }
}

impl Control for World {
    fn elapsed(&self) -> Duration {
        self.within(Fabric::elapsed)
    }

    fn step(&mut self) -> Result<(), String> {
        self.run_for(self.step)
    }

    fn crash(&mut self, host: IpAddr, end: End) {
        let Some(number) = self.number(host) else { return };
        self.within(|fabric| fabric.lock().crash(number, end));
        let site = &mut self.sites[number];
        if let Some(main) = site.main.take() {
            main.abort();
        }
        let spawner = site.spawner.clone();
        // A task that is aborted is dropped when its turn comes.
        let has_ended = self.runtime.block_on(self.local.run_until(async {
            for _ in 0..TURNS_MAX {
                if task::alive(number) == 0 {
                    return true;
                }
                spawner.abort_all();
                yield_now().await;
            }
            false
        }));
        if !has_ended {
            self.failed.borrow_mut().get_or_insert(format!("a task of {host} outlives its host"));
        }
    }

    fn restart(&mut self, host: IpAddr) {
        if let Some(number) = self.number(host).filter(|number| self.sites[*number].main.is_none()) {
            self.start(number);
        }
    }

    fn is_running(&mut self, host: IpAddr) -> bool {
        self.number(host).is_some_and(|number| self.sites[number].main.is_some())
    }

    fn cut(&mut self, from: IpAddr, to: IpAddr) {
        self.between(from, to, |state, from, to| state.cut.insert((from, to)));
    }

    fn mend(&mut self, from: IpAddr, to: IpAddr) {
        self.between(from, to, |state, from, to| state.cut.remove(&(from, to)));
    }

    fn hold(&mut self, one: IpAddr, other: IpAddr) {
        self.between(one, other, State::hold);
    }

    fn release(&mut self, one: IpAddr, other: IpAddr) {
        self.between(one, other, State::release);
    }

    fn set_latency(&mut self, one: IpAddr, other: IpAddr, latency: Duration) {
        self.between(one, other, |state, one, other| {
            let link = Link { latency, ..state.link(one, other) };
            state.set_link(one, other, link);
        });
    }

    fn move_behind(&mut self, host: IpAddr, router: nat::Settings) -> Result<(), String> {
        Self::move_behind(self, host, router).map_err(|error| error.to_string())
    }

    fn in_progress(&self) -> BTreeMap<(IpAddr, IpAddr), usize> {
        self.within(|fabric| {
            let state = fabric.lock();
            let ips = |(one, other): (usize, usize)| {
                let (one, other) = (state.hosts[one].ip, state.hosts[other].ip);
                (one.min(other), one.max(other))
            };
            state.in_progress().into_iter().map(|(pair, segments)| (ips(pair), segments)).collect()
        })
    }
}

/// Carries out what happens in the network, each at its time.
async fn drive(fabric: Fabric) {
    let mut waiting: Option<Pin<Box<Sleep>>> = None;
    future::poll_fn(|cx| -> Poll<()> {
        loop {
            let mut state = fabric.lock();
            state.driver = Some(cx.waker().clone());
            let next = state.coming.first_key_value().map(|((at, _), _)| Duration::from_nanos(*at));
            drop(state);
            let Some(next) = next else { return Poll::Pending };
            let at = fabric.began() + next;
            let sleep = match &mut waiting {
                Some(sleep) => {
                    if sleep.deadline() != at {
                        sleep.as_mut().reset(at);
                    }
                    sleep
                }
                None => waiting.insert(Box::pin(sleep_until(at))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}
