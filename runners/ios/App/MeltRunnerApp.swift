import SwiftUI

/// melt's runner as an app: it does one job that a computer has put into its Documents, and ends.
@main
struct MeltRunnerApp: App {
    @StateObject private var runner = Runner()

    var body: some Scene {
        WindowGroup {
            Text(runner.status)
                .font(.title3)
                .multilineTextAlignment(.center)
                .padding()
                .onAppear { runner.start(words: Array(CommandLine.arguments.dropFirst())) }
        }
    }
}
