import Combine
import Foundation
import UIKit
import os

/// Starts the native core in a thread of its own, and adds to its events what only an app can know.
final class Runner: ObservableObject {
    @Published private(set) var status = "melt's runner.\nStart it from a computer: melt run --device iphone"

    // Beside the job, which is the last word: Documents/RUN.job.json.
    private var events = ""
    private var telemetry = ""
    private var watch: DispatchSourceFileSystemObject?
    private var timer: DispatchSourceTimer?
    private var observers: [NSObjectProtocol] = []

    /// Does the job that the words name; without words, as when a person taps the app, nothing.
    func start(words: [String]) {
        guard let job = words.last, job.hasSuffix(".job.json"), watch == nil else { return }
        let run = NSHomeDirectory() + "/" + job.dropLast("job.json".count)
        events = run + "events.jsonl"
        telemetry = run + "telemetry.jsonl"
        status = "Measuring. Leave the app open and the screen on."
        UIApplication.shared.isIdleTimerDisabled = true
        // Paths in a job count from the container, whose place on the disk a computer does not know.
        FileManager.default.changeCurrentDirectoryPath(NSHomeDirectory())
        FileManager.default.createFile(atPath: events, contents: nil)
        sayWhenWritten()
        warnOfConditions()
        sampleMemory()
        let path = events
        let thread = Thread {
            var pointers: [UnsafePointer<CChar>?] = words.map { UnsafePointer(strdup($0)) }
            exit(melt_run(Int32(words.count), &pointers, path))
        }
        thread.stackSize = 8 << 20
        thread.qualityOfService = .userInteractive
        thread.start()
    }

    /// One line on the stdout that the computer listens to whenever an event was written: it then reads the file.
    private func sayWhenWritten() {
        let file = open(events, O_EVTONLY)
        let told = dup(STDOUT_FILENO)
        guard file >= 0, told >= 0 else { return }
        let source = DispatchSource.makeFileSystemObjectSource(
            fileDescriptor: file, eventMask: .extend, queue: DispatchQueue(label: "events", qos: .utility))
        source.setEventHandler { _ = write(told, "event\n", 6) }
        source.resume()
        watch = source
    }

    /// How much more memory iOS gives the app, which it tells nobody else. The computer takes the file at the end.
    private func sampleMemory() {
        let source = DispatchSource.makeTimerSource(queue: DispatchQueue(label: "memory", qos: .utility))
        source.schedule(deadline: .now(), repeating: .milliseconds(500))
        source.setEventHandler { [telemetry] in
            _ = melt_sample_memory(telemetry, UInt64(os_proc_available_memory()))
        }
        source.resume()
        timer = source
    }

    /// Warnings for what disturbs a measurement. iOS tells no temperature, only how it feels about it.
    private func warnOfConditions() {
        let initial = ProcessInfo.processInfo.thermalState
        if initial != .nominal {
            warn("thermal_state", "\(name(of: initial)) at the start")
        }
        observe(ProcessInfo.thermalStateDidChangeNotification) { [self] in
            warn("thermal_state", name(of: ProcessInfo.processInfo.thermalState))
        }
        observe(UIApplication.didReceiveMemoryWarningNotification) { [self] in
            warn("memory_pressure", "\(os_proc_available_memory() >> 20) MiB are left to the app")
        }
        observe(UIApplication.willResignActiveNotification) { [self] in
            warn("left_foreground", "the app was sent to the background, where iOS may stop it")
        }
    }

    private func observe(_ name: Notification.Name, _ act: @escaping () -> Void) {
        observers.append(NotificationCenter.default.addObserver(forName: name, object: nil, queue: .main) { _ in act() })
    }

    private func warn(_ kind: String, _ message: String) {
        melt_warn(events, kind, message)
    }

    private func name(of state: ProcessInfo.ThermalState) -> String {
        switch state {
        case .nominal: return "nominal"
        case .fair: return "fair"
        case .serious: return "serious"
        case .critical: return "critical"
        @unknown default: return "unknown"
        }
    }
}
