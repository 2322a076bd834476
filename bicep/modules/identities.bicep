// One identity for each workload, which its Kubernetes service accounts stand for. No workload holds a credential of Azure.

@description('What the identities\' names begin with.')
param prefix string

@description('Azure region.')
param location string

@description('OIDC issuer of the cluster.')
param issuer string

@description('The workloads: objects of name, namespace and serviceAccounts.')
param workloads array

var accounts = flatten(map(workloads, workload => map(workload.serviceAccounts, account => {
  identity: '${prefix}-${workload.name}'
  namespace: workload.namespace
  name: account
})))

resource identities 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = [for workload in workloads: {
  name: '${prefix}-${workload.name}'
  location: location
}]

@batchSize(1) // Azure takes one at a time for an identity
resource credentials 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31' = [for account in accounts: {
  name: '${account.identity}/${account.name}'
  properties: {
    issuer: issuer
    subject: 'system:serviceaccount:${account.namespace}:${account.name}'
    audiences: ['api://AzureADTokenExchange']
  }
  dependsOn: [identities]
}]

@description('The identities: objects of name, clientId and principalId.')
output identities array = [for (workload, i) in workloads: {
  name: workload.name
  clientId: identities[i].properties.clientId
  principalId: identities[i].properties.principalId
}]
