// The virtual network: a subnet for the nodes, one for private endpoints, one for MySQL's VM, and what each lets in.

@description('Name of the virtual network; the names of what belongs to it are made from it.')
param name string

@description('Azure region.')
param location string

@description('Addresses of the network, a /16. It must not overlap the networks that a gateway leads to.')
param addressPrefix string

@description('Whether MySQL runs on a VM in this network.')
param mysqlVm bool

@description('Whether a subnet is wanted for a gateway to other networks.')
param gateway bool

@description('Address at which MySQL answers.')
param mysqlAddress string

@description('Private DNS zone of MySQL\'s name.')
param dnsZone string

var ports = loadJsonContent('../system.json').ports
var nodesPrefix = cidrSubnet(addressPrefix, 22, 0)
var endpointsPrefix = cidrSubnet(addressPrefix, 24, 4)
var mysqlPrefix = cidrSubnet(addressPrefix, 24, 5)

// AllowVnetInBound, a default rule, would let the whole network in.
var denyOthers = {
  name: 'deny-others'
  properties: {
    priority: 4096
    direction: 'Inbound'
    access: 'Deny'
    protocol: '*'
    sourceAddressPrefix: '*'
    sourcePortRange: '*'
    destinationAddressPrefix: '*'
    destinationPortRange: '*'
  }
}

resource address 'Microsoft.Network/publicIPAddresses@2024-05-01' = {
  name: 'pip-${name}-nat'
  location: location
  sku: { name: 'Standard' }
  properties: { publicIPAllocationMethod: 'Static' }
}

// One address for everything that leaves, which others can put on a list, and ports enough for many connections.
resource nat 'Microsoft.Network/natGateways@2024-05-01' = {
  name: 'ng-${name}'
  location: location
  sku: { name: 'Standard' }
  properties: {
    idleTimeoutInMinutes: 10
    publicIpAddresses: [{ id: address.id }]
  }
}

resource nodesRules 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  name: 'nsg-${name}-nodes'
  location: location
  properties: {
    securityRules: [
      {
        name: 'clients'
        properties: {
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: 'Internet'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRanges: ['80', '443'] // the Ingress answers 80 with a redirect
        }
      }
      {
        name: 'mysql-vm-logs' // to Loki, by the load balancer
        properties: {
          priority: 110
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: mysqlPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '${ports.loki}'
        }
      }
      {
        name: 'deny-mysql-vm'
        properties: {
          priority: 120
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: mysqlPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource endpointsRules 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  name: 'nsg-${name}-endpoints'
  location: location
  properties: {
    securityRules: [
      {
        name: 'nodes'
        properties: {
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: nodesPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRanges: ['${ports.https}', '${ports.amqp}', '${ports.redis}']
        }
      }
      {
        name: 'mysql-vm' // key vault and storage account
        properties: {
          priority: 110
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: mysqlPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '${ports.https}'
        }
      }
      denyOthers
    ]
  }
}

resource mysqlRules 'Microsoft.Network/networkSecurityGroups@2024-05-01' = if (mysqlVm) {
  name: 'nsg-${name}-mysql'
  location: location
  properties: {
    securityRules: [
      {
        name: 'nodes' // MySQL, the exporters of the node and of mysqld, and Alloy
        properties: {
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: nodesPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRanges: ['${ports.mysql}', '9100', '9104', '12345']
        }
      }
      denyOthers
    ]
  }
}

var subnets = [
  {
    name: 'nodes'
    properties: {
      addressPrefix: nodesPrefix
      natGateway: { id: nat.id }
      networkSecurityGroup: { id: nodesRules.id }
    }
  }
  {
    name: 'endpoints'
    properties: {
      addressPrefix: endpointsPrefix
      networkSecurityGroup: { id: endpointsRules.id }
      privateEndpointNetworkPolicies: 'NetworkSecurityGroupEnabled'
    }
  }
]

var mysqlSubnet = {
  name: 'mysql'
  properties: {
    addressPrefix: mysqlPrefix
    natGateway: { id: nat.id }
    networkSecurityGroup: { id: mysqlRules.id }
  }
}

var gatewaySubnet = {
  name: 'GatewaySubnet' // the name that Azure asks for
  properties: { addressPrefix: cidrSubnet(addressPrefix, 27, 48) }
}

resource vnet 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: name
  location: location
  properties: {
    addressSpace: { addressPrefixes: [addressPrefix] }
    subnets: concat(subnets, mysqlVm ? [mysqlSubnet] : [], gateway ? [gatewaySubnet] : [])
  }
}

// MySQL has one name, whether it runs here or elsewhere, and its certificate is made out to it.
resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = {
  name: dnsZone
  location: 'global'
}

resource zoneLink 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = {
  parent: zone
  name: name
  location: 'global'
  properties: {
    registrationEnabled: false
    virtualNetwork: { id: vnet.id }
  }
}

resource mysqlRecord 'Microsoft.Network/privateDnsZones/A@2024-06-01' = {
  parent: zone
  name: 'mysql'
  properties: {
    ttl: 60
    aRecords: [{ ipv4Address: mysqlAddress }]
  }
}

@description('Resource id of the virtual network.')
output vnetId string = vnet.id

@description('Name of the virtual network.')
output vnetName string = vnet.name

@description('Resource id of the subnet of private endpoints.')
output endpointsSubnetId string = '${vnet.id}/subnets/endpoints'

@description('Addresses of the private endpoints.')
output endpointsPrefix string = endpointsPrefix

@description('Address of Loki for what is not in the cluster: the last of the nodes, which get the first that are free.')
output lokiAddress string = cidrHost(nodesPrefix, 1021)

@description('Resource id of the subnet of MySQL\'s VM; there is one only with the VM.')
output mysqlSubnetId string = '${vnet.id}/subnets/mysql'

@description('Resource id of the subnet of the gateway; there is one only with a gateway.')
output gatewaySubnetId string = '${vnet.id}/subnets/GatewaySubnet'

@description('Address from which everything leaves the network.')
output natAddress string = address.properties.ipAddress

@description('Name of MySQL in the network.')
output mysqlHost string = '${mysqlRecord.name}.${zone.name}'
