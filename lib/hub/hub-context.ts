import type { TurnBudget } from '../basics/turn-budget.ts'
import type { DeliveryEngine } from '../delivery/delivery-engine.ts'
import type { HubLogs } from '../replica/hub-logs.ts'
import type { ClusterRequests } from './cluster-requests.ts'
import type { SubscriptionRegistry } from './subscription-registry.ts'
import type { Telemetry } from './telemetry.ts'

/** The parts of one hub, for its subscriptions and iterators. */
export interface HubContext {
  readonly engine: DeliveryEngine
  readonly logs: HubLogs
  readonly registry: SubscriptionRegistry
  readonly requests: ClusterRequests
  readonly telemetry: Telemetry
  /** The time that publishers and iterators may take in one turn of the event loop. */
  readonly budget: TurnBudget
}
