// The Service Bus namespace with the queues of system.json, and who may send to and receive from which.

@description('Name of the namespace.')
param name string

@description('Azure region.')
param location string

@description('Tier. Only Premium has private endpoints.')
@allowed(['Standard', 'Premium'])
param sku string

@description('Messaging units. Only for Premium.')
param capacity int

@description('Whether the namespace is reached through a private endpoint only.')
param privateOnly bool

@description('Object id of each identity by its name: the services of system.json, and keda.')
param principals object

@description('Resource id of the Log Analytics workspace.')
param workspaceId string

var system = loadJsonContent('../system.json')
var queueNames = map(items(system.queues), queue => queue.key)

var roles = {
  sender: '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39'
  receiver: '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0'
  owner: '090c5cfd-751d-490a-894a-3ce6f1109419'
}

var senders = flatten(map(items(system.services), service => map(service.value.sends, queue => {
  identity: service.key
  queue: queue
  role: roles.sender
})))
var receivers = flatten(map(items(system.services), service => map(service.value.receives, queue => {
  identity: service.key
  queue: queue
  role: roles.receiver
})))
// The depth of a queue is told only to those who may manage it.
var scalers = map(queueNames, queue => {
  identity: 'keda'
  queue: queue
  role: roles.owner
})
var grants = concat(senders, receivers, scalers)

resource namespace 'Microsoft.ServiceBus/namespaces@2024-01-01' = {
  name: name
  location: location
  sku: {
    name: sku
    tier: sku
    capacity: sku == 'Premium' ? capacity : null
  }
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: privateOnly ? 'Disabled' : 'Enabled'
  }
}

resource queues 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' = [for queue in items(system.queues): {
  parent: namespace
  name: queue.key
  properties: {
    lockDuration: queue.value.lockDuration
    maxDeliveryCount: queue.value.maxDeliveryCount
    requiresDuplicateDetection: true
    duplicateDetectionHistoryTimeWindow: queue.value.duplicateDetectionHistoryTimeWindow
    requiresSession: false
    maxSizeInMegabytes: 5120
    defaultMessageTimeToLive: 'P14D'
    deadLetteringOnMessageExpiration: true // an accepted event is never dropped
  }
}]

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for grant in grants: {
  name: guid(queues[indexOf(queueNames, grant.queue)].id, grant.identity, grant.role)
  scope: queues[indexOf(queueNames, grant.queue)]
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', grant.role)
    principalId: principals[grant.identity]
    principalType: 'ServicePrincipal'
  }
}]

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'logs'
  scope: namespace
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

@description('Resource id of the namespace.')
output id string = namespace.id

@description('Name of the namespace.')
output name string = namespace.name

@description('Host name of the namespace.')
output fqdn string = '${namespace.name}.servicebus.windows.net'
